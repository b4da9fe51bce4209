-- What every adapter finds: the changes of a case, as text, in the order in which they come; and what history must be.
create schema torture;

create table torture.changes (
    line integer generated always as identity primary key,
    load integer not null,
    captured_at timestamptz not null,
    operation text not null,
    id text not null,
    updated_at text,
    a text,
    n text
);

create table torture.expected (
    id integer not null,
    valid_from timestamptz not null,
    valid_to timestamptz,
    a text,
    n text
);
