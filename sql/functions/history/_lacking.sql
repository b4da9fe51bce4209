create or replace function tidemark._lacking(
    p_columns text [],
    p_missing text []
)
returns text []
language sql
immutable
parallel safe
as $$
-- Which columns a batch came without, of those that any batch came without; null where it has all, or is not known to lack any.
-- Called once a change, so it carries no "set" clause: the functions that use it have pinned the search path.
select case
    when not p_columns @> p_missing then array(select m.name from unnest(p_missing) as m (name) where m.name <> all (p_columns))
end;
$$;
