create or replace function tidemark.note_checks(
    p_results json,
    p_now timestamptz
)
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Notes how checks ended: p_results is a JSON array of {"suite", "check", "violations"}. A check that failed before and fails again keeps
-- the moment of its first failure. Repeating it changes nothing but the time.
-- Runs with the rights of its owner, so that who may execute it needs none on the table.
insert into tidemark.check_results as c (suite, check_name, violations, checked_at, failing_since)
select r.suite, r."check", r.violations, p_now, case when r.violations > 0 then p_now end
from json_to_recordset(p_results) as r (suite text, "check" text, violations bigint)
on conflict on constraint check_results_pkey do update
set violations = excluded.violations,
    checked_at = excluded.checked_at,
    failing_since = case when excluded.violations > 0 then coalesce(c.failing_since, excluded.failing_since) end;
$$;

revoke execute on function tidemark.note_checks (json, timestamptz) from public;
