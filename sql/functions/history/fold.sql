create or replace function tidemark._fold_step(
    p_state tidemark.fold_state,
    p_operation text,
    p_effective timestamptz,
    p_captured timestamptz,
    p_content text [],
    p_is_known boolean [],
    p_stored_start timestamptz
)
returns tidemark.fold_state
language plpgsql
immutable
parallel safe
as $$
-- One step of the aggregate tidemark.fold: what becomes of a change, given what the changes before it made.
-- A column that the change, or the version in force, does not know equals anything, and the version takes
-- its first value. Times are reckoned by tidemark._fold_time_step, as on the path of batches that come in order.
-- Called once a change, so it carries no "set" clause: the statements that use it have pinned the search path.
declare
    v_next tidemark.fold_state := p_state;
    v_in_force boolean := coalesce(p_state.in_force, false);
    v_is_equal boolean;
begin
    -- The stored version that a slice of history begins with: it is in force, and when it began is settled.
    if p_stored_start is not null then
        return row('opened', p_stored_start, true, null, p_content, p_is_known)::tidemark.fold_state;
    end if;

    if p_operation = 'DELETE' then
        if v_in_force then
            v_next.verdict := 'delete';
            v_next.takes_effect := tidemark._fold_time_step(p_state.takes_effect, p_effective, p_captured, true, null);
            v_next.in_force := false;
        else
            v_next.verdict := 'nothing to delete';
            v_next.in_force := false;
        end if;
        return v_next;
    end if;

    if v_in_force then
        v_is_equal := p_content = p_state.content;
        if not v_is_equal and (p_is_known is not null or p_state.is_known is not null) then
            select coalesce(bool_and(
                old.content is not distinct from new.content or not coalesce(old.is_known, true) or not coalesce(new.is_known, true)
            ), true)
            into v_is_equal
            from unnest(p_state.content, p_state.is_known) with ordinality as old (content, is_known, place)
            join unnest(p_content, p_is_known) with ordinality as new (content, is_known, place) using (place);
        end if;
        if v_is_equal then
            v_next.verdict := 'unchanged';
            if p_state.is_known is not null then
                select
                    array_agg(case when coalesce(old.is_known, true) then old.content else new.content end order by place),
                    array_agg(coalesce(old.is_known, true) or coalesce(new.is_known, true) order by place)
                into v_next.content, v_next.is_known
                from unnest(p_state.content, p_state.is_known) with ordinality as old (content, is_known, place)
                join unnest(p_content, p_is_known) with ordinality as new (content, is_known, place) using (place);
            end if;
            return v_next;
        end if;
    end if;

    return row(
        'opened', tidemark._fold_time_step(p_state.takes_effect, p_effective, p_captured, v_in_force, null),
        true, not v_in_force, p_content, p_is_known
    )::tidemark.fold_state;
end;
$$;

create or replace aggregate tidemark.fold(
    p_operation text,
    p_effective timestamptz,
    p_captured timestamptz,
    p_content text [],
    p_is_known boolean [],
    p_stored_start timestamptz
)
(
    sfunc = tidemark._fold_step,
    stype = tidemark.fold_state
);

comment on aggregate tidemark.fold (text, timestamptz, timestamptz, text [], boolean [], timestamptz) is 'The fold of a key: what becomes of each of its changes, when they are taken in their order.
Used as a window aggregate, partitioned by key; its result at a change is a tidemark.fold_state:
  operation, effective, captured   of the change; the instant of its capture in the zone of its effective time
  content, is_known                its tracked columns as PostgreSQL prints them, and which its batch had, null where all; last what tells
                                   a shell of a forgotten key from its neighbours, null for any other change
  stored_start                     valid_from of the stored version that the slice begins with; null for other changes';
