create or replace function tidemark._assert_log_in_order(
    p_batch tidemark.batches
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- A batch of the log is meant against the state before it: values that did not change are left out, a TRUNCATE ends what is in force. So it
-- is loaded after the batch that it names as the one before it in its chain.
-- Errors: TM001 a batch of the log that is of a shard, has no place in the chain, or is for a table in the order of effective times;
-- TM026 the batch before it is not in the ledger.
declare
    v_previous text := p_batch.metadata ->> 'previous_batch_id';
    v_fault text := case
        when p_batch.shard <> '' then 'it is of a shard, and the log is one chain'
        when p_batch.sequence is null then 'it has no sequence'
        when exists (
            select from tidemark.dimensions as d where d.dimension_name = p_batch.dimension_name and d.change_order <> 'capture'
        ) then 'its table is kept in the order of effective times'
    end;
begin
    if v_fault is not null then
        raise exception using
            errcode = 'TM001',
            message = format('the document is not a batch of the log: %s', v_fault),
            detail = format('table=%s batch=%s', p_batch.dimension_name, p_batch.batch_id),
            hint = 'docs/architecture.md describes the batch file';
    end if;
    if v_previous is not null and not exists (
        select
        from tidemark.batches as b
        where b.dimension_name = p_batch.dimension_name and b.shard = p_batch.shard and b.batch_id = v_previous
    ) then
        raise exception using
            errcode = 'TM026',
            message = 'the batch before this one of the log is not loaded',
            detail = format(
                'table=%s batch=%s sequence=%s previous_batch_id=%s', p_batch.dimension_name, p_batch.batch_id, p_batch.sequence, v_previous
            ),
            hint = 'load that one first: what is read from the log is loaded in the order of its chain';
    end if;
end;
$$;
