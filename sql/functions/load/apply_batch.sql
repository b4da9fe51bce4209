create or replace function tidemark.apply_batch(
    p_batch json
)
returns table (
    inserted_versions bigint,
    closed_versions bigint,
    absorbed_changes bigint,
    corrected_versions bigint,
    late_changes bigint,
    rejected_changes bigint,
    already_applied boolean
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Applies one batch document to its history: {"batch_metadata": {...}, "changes": [...]}.
-- See tidemark.apply_batch_parts, which does it: safe to repeat, a change that cannot be applied stops no other, and loaders queue.
-- Runs with the rights of its owner: a role that may execute it needs no right on any table.
-- Errors: TM001 not a batch, and those of tidemark.apply_batch_parts.
declare
    v_member record;
    v_metadata json;
    v_changes json;
begin
    if json_typeof(p_batch) is distinct from 'object' then
        raise exception using errcode = 'TM001', message = 'the document is not a batch: it must be a JSON object';
    end if;
    -- Once through the document, however large it is.
    for v_member in select m.key, m.value from json_each(p_batch) as m loop
        case v_member.key
            when 'batch_metadata' then v_metadata := v_member.value;
            when 'changes' then v_changes := v_member.value;
            else null;
        end case;
    end loop;
    return query select p.* from tidemark.apply_batch_parts(v_metadata, v_changes) as p;
end;
$$;

revoke execute on function tidemark.apply_batch (json) from public;
