create or replace function tidemark._fold_time_step(
    p_state timestamptz,
    p_effective timestamptz,
    p_captured timestamptz,
    p_in_force boolean,
    p_start timestamptz
)
returns timestamptz
language plpgsql
immutable
parallel safe
as $$
-- One step of the aggregate tidemark.fold_time: the time at which a change takes effect.
-- p_state is the time of the change before it in the fold, p_start that of the last version already stored.
-- Called once a change, so it carries no "set" clause: apply_batch, its only caller, has pinned the search path.
begin
    return tidemark._takes_effect(p_effective, p_captured, p_in_force, coalesce(p_state, p_start));
end;
$$;
