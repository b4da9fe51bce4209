-- Looks a batch up in the ledger: true where it is there with the same content.
-- Errors: TM003 where its name (in whatever shard of the table) or its place in the chain is there with other content: two writers made
-- two truths.
create or replace function tidemark._is_already_applied(
    p_dimension_name text,
    p_shard text,
    p_batch_id text,
    p_sequence bigint,
    p_checksum text
)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_applied record;
begin
    select b.batch_id, b.shard, b.sequence, b.checksum into v_applied
    from tidemark.batches as b
    where b.dimension_name = p_dimension_name
        and (b.batch_id = p_batch_id or (b.shard = p_shard and b.sequence = p_sequence))
    order by b.batch_id = p_batch_id desc
    limit 1;

    if not found then
        return false;
    end if;
    if v_applied.batch_id = p_batch_id
        and v_applied.shard = p_shard
        and v_applied.checksum = p_checksum
        and v_applied.sequence is not distinct from p_sequence
    then
        return true;
    end if;
    raise exception using
        errcode = 'TM003',
        message = 'the batch is a fork: the ledger holds another one in its place',
        detail = format(
            'table=%s batch=%s%s sequence=%s checksum=%s; ledger: batch=%s%s sequence=%s checksum=%s',
            p_dimension_name, p_batch_id, ' shard=' || nullif(p_shard, ''), p_sequence, p_checksum,
            v_applied.batch_id, ' shard=' || nullif(v_applied.shard, ''), v_applied.sequence, v_applied.checksum
        ),
        hint = 'find out who else writes this change log; the batch that is in the ledger is the one that counts';
end;
$$;
