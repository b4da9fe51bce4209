-- Tables that cannot be captured as they are, each for a reason of its own; the sentences are in the test.
create schema refused;
set search_path = refused;

create extension if not exists citext with schema public;
create type pair as (amount numeric, label text);

create table text_without_case (mail public.citext primary key, v text);
create table json_key (k jsonb primary key, v text);
create table number_list_key (k numeric[] primary key, v text);
create table composite_key (k pair primary key, v text);
create table interval_key (k interval primary key, v text);

create table parent (id int primary key, v text);
create table child (extra text) inherits (parent);
insert into parent values (1, 'of the parent');
insert into child values (1, 'of the child', 'x');

create table no_key (id int, v text);
insert into no_key values (1, 'a'), (1, 'a');

do $$
begin
    execute (
        select 'create table too_wide (id int primary key, ' || string_agg('c' || g || ' int', ', ') || ')'
        from generate_series(1, 1590) as g
    );
end;
$$;
