-- The alerts that are on at p_now, the gravest first: every indicator above the threshold of its rule, over a window that ends at p_now.
-- The view tidemark.alerts shows them for the window in tidemark.monitoring; rules and thresholds are in tidemark.alert_rules.
create or replace function tidemark.alerts(
    p_window interval,
    p_now timestamptz
)
returns table (
    rule_name text,
    dimension_name text,
    severity text,
    condition text,
    measured double precision,
    since timestamptz,
    subject text,
    meaning text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
select
    r.rule_name, m.dimension_name, r.severity,
    concat(r.indicator, ' > ', r.threshold, case r.unit when 's' then 's' when 'share' then '' else ' ' || r.unit end),
    m.measured,
    -- A lag passed its threshold when it was that old; what else there is began when it was seen.
    case
        when r.unit = 's' and r.indicator = 'watermark_lag_seconds' then m.since + make_interval(secs => r.threshold)
        else m.since
    end,
    m.subject, r.meaning
from tidemark._alert_measurements(p_window, p_now) as m
join tidemark.alert_rules as r on r.rule_name = m.rule_name
where r.is_enabled and m.measured > r.threshold
order by array_position(array['critical', 'warning', 'info'], r.severity), r.rule_name, m.dimension_name, m.subject;
$$;
