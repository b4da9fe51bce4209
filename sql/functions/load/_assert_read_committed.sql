create or replace function tidemark._assert_read_committed(
    p_function_name text
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What writes history waits for a lock first and looks at the ledger then: a snapshot older than the lock would miss batches.
-- Errors: TM006 in any isolation level but read committed.
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception using
            errcode = 'TM006',
            message = format('%s must run in read committed', p_function_name),
            detail = format('transaction_isolation=%s', current_setting('transaction_isolation')),
            hint = 'begin the transaction with isolation level read committed: a snapshot older than the lock misses batches';
    end if;
end;
$$;
