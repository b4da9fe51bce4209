create or replace function tidemark.note_reconciliation(
    p_dimension_name text,
    p_source_rows bigint,
    p_missing bigint,
    p_extra bigint,
    p_different bigint,
    p_repaired bigint,
    p_reconciled_at timestamptz
)
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Notes what a comparison of source and history found, for missing_change_rate. Repeated for the same moment it changes nothing.
-- A moment yet to come counts as now, or it would be the newest for ever.
-- Runs with the rights of its owner, so that who may execute it needs none on the table.
insert into tidemark.reconciliations (dimension_name, reconciled_at, source_rows, missing, extra, different, repaired)
values (p_dimension_name, least(p_reconciled_at, clock_timestamp()), p_source_rows, p_missing, p_extra, p_different, p_repaired)
on conflict on constraint reconciliations_pkey do nothing;
$$;

revoke execute on function tidemark.note_reconciliation (text, bigint, bigint, bigint, bigint, bigint, timestamptz) from public;
