-- A batch captured before absorbed changes were pruned could need one of them: it is refused, so that history is never wrong for it.
-- Batches of the chains never are: pruning stops where they stand.
-- Errors: TM018.
create or replace function tidemark._assert_not_pruned(
    p_dimension_name text,
    p_batch_id text,
    p_extracted_at timestamptz
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_before timestamptz := (select d.pruned_before from tidemark.dimensions as d where d.dimension_name = p_dimension_name);
begin
    if p_extracted_at < v_before then
        raise exception using
            errcode = 'TM018',
            message = 'the batch was captured before the moment up to which absorbed changes were pruned',
            detail = format('table=%s batch=%s extracted_at=%s pruned_before=%s', p_dimension_name, p_batch_id, p_extracted_at, v_before),
            hint = 'move the waiting batch files into processed/ of their chain, with every other batch there, and rebuild';
    end if;
end;
$$;
