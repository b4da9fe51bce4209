create or replace function tidemark._takes_effect(
    p_effective timestamptz,
    p_captured timestamptz,
    p_in_force boolean,
    p_before timestamptz
)
returns timestamptz
language sql
stable
parallel safe
as $$
-- The time at which a change takes effect, p_before being that of what it follows.
-- A change's own time counts if it can be right: finite, not after its capture, and after what it follows.
-- Else it took effect when it was first known: at its capture, or one microsecond after the version it closes.
-- Becomes part of the statement that calls it, which it could not with a "set" clause (its callers have pinned the search path), nor
-- declared immutable: PostgreSQL holds adding an interval for stable.
select case
    when isfinite(p_effective)
        and p_effective <= p_captured
        and (p_before is null or p_effective > p_before or (p_effective = p_before and not p_in_force))
        then p_effective
    else greatest(p_captured, case when p_in_force then p_before + interval '1 microsecond' else p_before end)
end;
$$;
