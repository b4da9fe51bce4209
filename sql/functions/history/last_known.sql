create or replace function tidemark._last_known_step(
    p_state anyelement,
    p_value anyelement,
    p_is_known boolean
)
returns anyelement
language sql
immutable
parallel safe
as $$
-- One step of the aggregate tidemark.last_known. Called once a change, so it carries no "set" clause: it names nothing.
select case when p_is_known then p_value else p_state end;
$$;

create or replace aggregate tidemark.last_known(
    p_value anyelement,
    p_is_known boolean
)
(
    sfunc = tidemark._last_known_step,
    stype = anyelement
);

comment on aggregate tidemark.last_known (anyelement, boolean) is 'The last value that is known, of values in their order; null where none is.
Used over the changes of a version, by the functions that tidemark.compile_dimension writes: what an untracked column shows is what the last
change said that had the column.';
