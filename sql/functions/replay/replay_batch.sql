create or replace function tidemark.replay_batch(
    p_dimension_name text,
    p_batch json,
    p_may_be_unknown boolean
)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Applies a batch document of a dimension to its scratch dimension (tidemark.open_replay), by apply_batch itself.
-- Returns whether it did: a document that the ledger does not know is left out, unless p_may_be_unknown, and so is a batch of the log
-- where the one before it was left out.
-- Errors: TM003 where the ledger knows the batch with other content, TM030 where it holds what was forgotten; what apply_batch raises.
declare
    v_metadata json := p_batch -> 'batch_metadata';
    v_known text;
    v_content text := tidemark.batch_checksum(p_batch -> 'changes');
    v_found text := case
        when v_metadata ->> 'content_checksum' is null then v_content
        else coalesce(v_metadata ->> 'checksum', v_metadata ->> 'original_checksum')
    end;
begin
    select b.checksum into v_known
    from tidemark.batches as b
    where b.dimension_name = p_dimension_name and b.shard = coalesce(v_metadata ->> 'shard', '') and b.batch_id = v_metadata ->> 'batch_id';
    if v_known is null and not p_may_be_unknown then
        return false;
    end if;
    perform tidemark._assert_nothing_forgotten(
        p_dimension_name, coalesce(v_metadata ->> 'shard', ''), v_metadata ->> 'batch_id', v_content
    );
    if v_known <> v_found then
        raise exception using
            errcode = 'TM003',
            message = 'the document is not the batch of that name that was applied',
            detail = format(
                'dimension=%s batch=%s checksum: ledger=%s found=%s', p_dimension_name, v_metadata ->> 'batch_id', v_known, v_found
            ),
            hint = 'restore the file of that name from a backup; the ledger keeps the checksum of what was applied';
    end if;

    if json_typeof(v_metadata -> 'log') = 'object' and v_metadata ->> 'previous_batch_id' is not null and not exists (
        select
        from tidemark.batches as b
        where b.dimension_name = tidemark._replay_name(p_dimension_name) and b.batch_id = v_metadata ->> 'previous_batch_id'
    ) then
        return false;
    end if;

    -- One that the ledger does not know may be of a wider source than history has seen. The scratch history is the caller's own.
    perform tidemark._follow_wider_columns(d.name, v_metadata)
    from unnest(array[p_dimension_name, tidemark._replay_name(p_dimension_name)]) as d (name);
    perform a.already_applied
    from tidemark.apply_batch_parts(
        tidemark._with_member(v_metadata, 'table', to_json(tidemark._replay_name(p_dimension_name))), p_batch -> 'changes'
    ) as a;
    return true;
end;
$$;
