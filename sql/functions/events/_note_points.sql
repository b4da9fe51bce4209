create or replace function tidemark._keep_points(
    p_dimension_name text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Keeps the points of all keys' times, beginnings of versions and ends of lives, before a history is written otherwise than by its
-- compiled functions, in a temporary table, for tidemark._note_points. Nothing is kept where events are not published.
begin
    if exists (select from tidemark.dimensions as d where d.dimension_name = p_dimension_name and d.events_since is not null) then
        execute format(
            'create temporary table %I on commit drop as %s',
            tidemark._replay_name(p_dimension_name) || '_points', tidemark._points_query(p_dimension_name)
        );
    end if;
end;
$$;

create or replace function tidemark._note_points(
    p_dimension_name text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Notes as events how the points of all keys' times differ from those that tidemark._keep_points has kept: those that are gone are
-- retracted, others corrected, but for those that come after all that there were of their key.
declare
    v_group bigint := nextval('tidemark.event_groups_group_id_seq');
begin
    if not exists (select from tidemark.dimensions as d where d.dimension_name = p_dimension_name and d.events_since is not null) then
        return;
    end if;
    execute format(
        $statement$
        with former_point as (
            table pg_temp.%I
        ),
        point as (
            select p.*, lag(p.version_key) over (partition by p.business_key order by p.moment, p.is_end desc) as key_before
            from (%s) as p
        ),
        difference as (
            select business_key, is_end, moment, n.operation, f.operation is null as is_new,
                exists (select from former_point as o where o.business_key = n.business_key and o.change = n.change) as was_there,
                coalesce(n.version_key, f.version_key) as version_key,
                case when n.operation <> 'INSERT' then n.key_before end as before_key,
                (n.version_key, n.content) is distinct from (f.version_key, f.content) as is_other,
                max(case when f.operation is not null then moment end) over (partition by business_key) as last_moment
            from former_point as f
            full join point as n using (business_key, is_end, moment)
        )
        insert into tidemark.events (group_id, place, kind, is_end, business_key, version_key, before_key, effective_at)
        select $1, row_number() over (order by d.operation is null desc, d.moment, d.is_end desc, d.business_key collate "C"),
            case
                when d.operation is null then 'retracted'
                when d.was_there or not d.is_new or d.moment < d.last_moment then 'corrected'
                when d.operation = 'INSERT' then 'created'
                when d.operation = 'UPDATE' then 'updated'
                else 'deleted'
            end,
            d.is_end, d.business_key, d.version_key, d.before_key, d.moment
        from difference as d
        where d.operation is null or d.is_new or d.is_other
        $statement$,
        tidemark._replay_name(p_dimension_name) || '_points', tidemark._points_query(p_dimension_name)
    )
    using v_group;
    perform tidemark._note_event_group(v_group, p_dimension_name, null);
end;
$$;

create or replace function tidemark._points_query(
    p_dimension_name text
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The query for the points of all keys' times as they are stored.
select tidemark._laid_out(
    $query$
    select json_build_object({printed_stored_key})::text as business_key, false as is_end, h.valid_from{at_utc} as moment,
        h.surrogate_key::bigint as version_key, h.batch_id || ':' || h.change_line as change, h.cdc_operation::text as operation, md5(row(
            {stored_tracked}
        )::text) as content
    from {history} as h
    union all
    select a.business_key, true, a.closed_at, null, a.batch_id || ':' || a.change_line, 'DELETE', null
    from tidemark.absorbed_changes as a
    where a.dimension_name = {dimension} and a.reason = 'delete'
    $query$,
    tidemark._column_lists(p_dimension_name)
);
$$;
