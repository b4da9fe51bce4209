create or replace function tidemark._create_versions_view()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Makes anew the views that show all dimensions in one shape, which is what the checks read; called at each registration.
--   tidemark.versions        every version
--   tidemark.neighbours      every version beside the ones before and after it of its key
--   tidemark.keys_in_force   every key with a version in force, and how many
--   tidemark.odd_versions    versions that break a rule by themselves
--   tidemark.version_lines   which lines of each batch are versions
--   tidemark.repeated_surrogate_keys   versions among which one has the surrogate key of another
-- A time without zone appears as if it were UTC, so that all histories share one type. Within an arm a key is sorted and grouped by its
-- own columns, which indexes serve, and printed only where a row is shown: that halves the time of a check that walks all keys.
-- Where Citus distributes a history, neighbours and keys_in_force leave out what breaks no rule: a condition beside such a view is applied
-- to all rows of an arm, brought here, and one within is the node's to apply, shard by shard. The last three do so everywhere.
-- "is true" keeps a subquery from being joined: it is asked when there is a row to ask it for, and a check may want none of a history.
-- The views are replaced, not dropped, or they would lose what was granted on them and said of them (sql/views/versions.sql): so every
-- column has a type of its own.
declare
    v_propagates boolean := tidemark._let_propagate(false);
    v_view record;
begin
    for v_view in
        with parts as materialized (
            select d.dimension_name, tidemark._version_parts(d.dimension_name) as parts
            from tidemark.dimensions as d
            join pg_class as c on c.oid = d.history_relation and c.relpersistence <> 't'
        )
        select t.view_name, (
            select string_agg(tidemark._laid_out(t.template, p.parts), ' union all ' order by p.dimension_name) from parts as p
        ) as arms
        from tidemark._version_templates() as t
    loop
        if v_view.arms is null then
            perform tidemark._clear_versions_view();
        else
            execute format('create or replace view tidemark.%I as %s', v_view.view_name, v_view.arms);
        end if;
    end loop;
    perform tidemark._let_propagate(v_propagates);
end;
$$;

create or replace function tidemark._version_templates()
returns table (
    view_name text,
    template text
)
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- The arm of one dimension in each view that tidemark._create_versions_view makes, with the parts of tidemark._version_parts.
-- Columns are renamed inside, so that no column of a history can be mistaken for one that is added.
values
(
    'versions',
    $arm$
    select
        {dimension}::text as dimension_name,
        json_build_object({history_key_pairs})::text as business_key,
        h.surrogate_key::bigint as surrogate_key,
        h.valid_from{at_utc} as valid_from,
        h.valid_to{at_utc} as valid_to,
        h.is_current,
        h.cdc_operation::text collate "default" as cdc_operation,
        h.cdc_timestamp{at_utc} as cdc_timestamp,
        h.batch_id::text collate "default" as batch_id,
        h.change_line::integer as change_line,
        h.captured_at,
        row({tracked_columns})::text as tracked_values
    from {history} as h
    $arm$
),
(
    'neighbours',
    $arm$
    select
        {dimension}::text as dimension_name,
        json_build_object({key_pairs})::text as business_key,
        v.surrogate_key::bigint as surrogate_key,
        v.valid_from{at_utc} as valid_from,
        v.valid_to{at_utc} as valid_to,
        v.cdc_operation::text collate "default" as cdc_operation,
        v.previous_surrogate_key::bigint as previous_surrogate_key,
        v.previous_valid_to{at_utc} as previous_valid_to,
        v.next_surrogate_key::bigint as next_surrogate_key,
        v.next_valid_from{at_utc} as next_valid_from,
        v.previous_surrogate_key is not null and v.compared is not distinct from v.previous as equals_previous,
        v.compared::text as tracked_values
    from (
        select
            {keys}, h.surrogate_key, h.valid_from, h.valid_to, h.cdc_operation,
            row({compared_values}){printed} as compared, lag(row({compared_values}){printed}) over by_key as previous,
            lag(h.surrogate_key) over by_key as previous_surrogate_key,
            lag(h.valid_to) over by_key as previous_valid_to,
            lead(h.surrogate_key) over by_key as next_surrogate_key,
            lead(h.valid_from) over by_key as next_valid_from
        from {history} as h
        window by_key as (partition by {key_columns} order by h.valid_from, h.surrogate_key)
    ) as v
{distributed}    left join (
{distributed}        select distinct a.business_key, a.closed_at
{distributed}        from tidemark.absorbed_changes as a
{distributed}        where a.dimension_name = {dimension} and a.reason = 'delete'
{distributed}    ) as e on e.business_key = json_build_object({key_pairs})::text and e.closed_at = v.valid_from{at_utc}
{distributed}    where v.valid_to > v.next_valid_from or v.valid_to < v.next_valid_from
{distributed}        or v.valid_to is null and v.next_valid_from is not null or v.valid_to is not null and v.next_valid_from is null
{distributed}        or v.cdc_operation <> 'INSERT' and v.previous_surrogate_key is not null
{distributed}            and v.compared is not distinct from v.previous
{distributed}        or (v.cdc_operation = 'INSERT') is distinct from (
{distributed}            v.previous_valid_to is null or v.previous_valid_to < v.valid_from or e.business_key is not null
{distributed}        )
    $arm$
),
(
    'keys_in_force',
    $arm$
    select {dimension}::text as dimension_name, json_build_object({key_pairs})::text as business_key, v.current_versions
    from (
        select {keys}, count(*) as current_versions
        from {history} as h
        where h.is_current
        group by {key_columns}
{distributed}        having count(*) > 1
    ) as v
    $arm$
),
(
    'odd_versions',
    $arm$
    select
        {dimension}::text as dimension_name,
        json_build_object({history_key_pairs})::text as business_key,
        h.surrogate_key::bigint as surrogate_key,
        h.valid_from{at_utc} as valid_from,
        h.valid_to{at_utc} as valid_to,
        h.is_current,
        h.batch_id::text collate "default" as batch_id,
        h.change_line::integer as change_line,
        l.batch_id is not null as has_batch
    from {history} as h
    left join (
        select distinct b.batch_id from tidemark.batches as b where b.dimension_name = {dimension}
    ) as l on l.batch_id = h.batch_id::text collate "default"
    where h.is_current is distinct from (h.valid_to is null) or h.valid_to <= h.valid_from or l.batch_id is null
    $arm$
),
(
    'version_lines',
    $arm$
    select
        {dimension}::text as dimension_name,
        h.batch_id::text collate "default" as batch_id,
        h.change_line::integer >> 10 as block,
        count(*) as versions,
        bit_or(set_bit(b'0'::bit(1024), h.change_line::integer & 1023, 1))::bit(1024) as lines
    from {history} as h
    group by h.batch_id, h.change_line::integer >> 10
    $arm$
),
(
    'repeated_surrogate_keys',
    $arm$
    select
        {dimension}::text as dimension_name,
        json_build_object({history_key_pairs})::text as business_key,
        h.surrogate_key::bigint as surrogate_key,
        h.valid_from{at_utc} as valid_from
    from {history} as h
    where (h.surrogate_key >> 10 in (
        select r.surrogate_key >> 10
        from {history} as r
        group by r.surrogate_key >> 10
        having count(*) > bit_count(bit_or(set_bit(b'0'::bit(1024), (r.surrogate_key & 1023)::integer, 1)))
    )) is true
    $arm$
);
$$;

create or replace function tidemark._version_parts(
    p_dimension_name text
)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What differs from dimension to dimension in the templates of tidemark._version_templates, by the name it has there.
-- Tracked columns are compared as tidemark._column_expressions says: where they are equal, PostgreSQL prints the same text. They stand
-- in one row, because a query shows at most 1,664 columns: so a table may have as many as its history holds, 1,600 with Tidemark's own.
select jsonb_build_object(
    'dimension', quote_literal(p_dimension_name),
    'history', max(d.history_relation::text),
    -- Beside one that is distributed, Citus keeps what such a subquery has to say for a while, and can read no row without a type again.
    'printed', case
        when max(d.distributed_by) is null and exists (select from tidemark.dimensions as o where o.distributed_by is not null)
            then '::text'
        else ''
    end,
    'distributed', case when max(d.distributed_by) is null then '[]' else '[""]' end::jsonb,
    'at_utc', max(case when f.atttypid = 'timestamp'::regtype then ' at time zone ''UTC''' else '' end),
    'history_key_pairs', string_agg(
        format('%L, %s', e.history_column, tidemark._key_member(a.atttypid, format('h.%I', e.history_column))), ', ' order by e.ordinal
    ) filter (where e.column_role = 'business key'),
    'key_pairs', string_agg(
        format('%L, %s', e.history_column, tidemark._key_member(a.atttypid, format('v.value_%s', e.ordinal))), ', ' order by e.ordinal
    ) filter (where e.column_role = 'business key'),
    'keys', string_agg(format('h.%I as value_%s', e.history_column, e.ordinal), ', ' order by e.ordinal)
        filter (where e.column_role = 'business key'),
    'key_columns', string_agg(format('h.%I', e.history_column), ', ' order by e.ordinal) filter (where e.column_role = 'business key'),
    'tracked_columns', coalesce(
        string_agg(format('h.%I', e.history_column), ', ' order by e.ordinal) filter (where e.column_role = 'tracked'), ''
    ),
    'compared_values', coalesce(
        string_agg(e.compare_history, ', ' order by e.ordinal) filter (where e.column_role = 'tracked'), ''
    )
)
from tidemark._column_expressions(p_dimension_name) as e
join tidemark.dimensions as d on d.dimension_name = p_dimension_name
join pg_attribute as a on a.attrelid = d.history_relation and a.attname = e.history_column
join pg_attribute as f on f.attrelid = d.history_relation and f.attname = 'valid_from';
$$;
