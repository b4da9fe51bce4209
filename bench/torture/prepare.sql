-- What every adapter finds: the changes of a case, as text, in the order in which they come, and what is told of the columns of its source;
-- and, for who compares, how the loads come and what history must be.
create schema torture;

create table torture.changes (
    line integer generated always as identity primary key,
    load integer not null,
    captured_at timestamptz not null,
    operation text not null,
    id text not null,
    updated_at text,
    a text,
    n text,
    b text,
    -- Those of a, n and b that the source had then: the others are null here.
    columns text []
);

create table torture.columns (
    line integer generated always as identity primary key,
    load integer not null,
    was text,
    name text not null,
    type text not null
);

create table torture.loads (
    line integer generated always as identity primary key,
    step integer not null,
    load integer not null,
    ended integer
);

create table torture.expected (
    id integer not null,
    valid_from timestamptz not null,
    valid_to timestamptz,
    a text,
    n text,
    b text
);
