-- Writes the condition that a row of a source table belongs to a shard. One row; none where the table is missing.
-- $1 schema, $2 table, $3 mapping (json array of {"source", "role"}), $4 shard: {"place", "count", "column", "cuts"}.
-- Without a column: SHA-256 of the printed key, modulo count: the same on every version, byte order and collation, for ever, and none of
-- a row's values is read by a client. A key has one form, as in history: 5.0 that became 5.00 stays in its shard.
-- With one: from the cut before it up to, without, the next one; text is compared byte by byte, and a row that has no value there belongs
-- to the first shard. So every row belongs to exactly one.
-- cuts_query is true where the cuts are in ascending order; it fails where they cannot be values of the column.
with relation as (
    select c.oid, format('%I.%I', n.nspname, c.relname) as name
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = $1::text and c.relname = $2::text and c.relkind in ('r', 'p', 'v', 'm', 'f')
),
wanted as (
    select w.place, w.count, w."column", w.cuts
    from json_to_record($4::text::json) as w (place integer, count integer, "column" text, cuts json)
),
mapped as (
    select m.ordinal, m.source as name,
        format(case
            when b.type_id = 'numeric'::regtype then 'trim_scale(t.%I)::text'
            when b.type_id = 'real'::regtype then '(t.%I + 0::real)::text'
            when b.type_id = 'double precision'::regtype then '(t.%I + 0::double precision)::text'
            else 't.%I::text'
        end, m.source) as printed
    from rows from (json_to_recordset($3::text::json) as (source text, role text)) with ordinality as m (source, role, ordinal)
    cross join relation as r
    left join pg_catalog.pg_attribute as a on a.attrelid = r.oid and a.attname = m.source and not a.attisdropped
    left join pg_catalog.pg_type as y on y.oid = a.atttypid
    cross join lateral (
        -- A domain may be over a domain.
        with recursive step (type_id, depth) as (
            select y.oid, 0
            union all
            select d.typbasetype, s.depth + 1 from step as s join pg_catalog.pg_type as d on d.oid = s.type_id and d.typtype = 'd'
        )
        select s.type_id as type_id from step as s order by s.depth desc limit 1
    ) as b
    where m.role = 'business key'
),
cut_column as (
    select a.attname as name, format_type(a.atttypid, a.atttypmod) as type,
        case when a.attcollation <> 0 then ' collate "C"' else '' end as collation,
        a.attname in (select m.name from mapped as m) as is_key
    from relation as r
    join pg_catalog.pg_attribute as a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
    join wanted as w on w."column" = a.attname
),
cut as (
    select c.place, format('%L::%s%s', c.text, k.type, k.collation) as value, format('null::%s', k.type) as none
    from wanted as w
    cross join cut_column as k
    cross join lateral json_array_elements_text(w.cuts) with ordinality as c (text, place)
)
select
    r.name as relation, k.is_key,
    case
        when w."column" is null then (
            select format(
                '(''x'' || left(encode(sha256(convert_to(json_build_array(%s)::text, ''UTF8'')), ''hex''), 8))::bit(32)::bigint %% %s = %s',
                string_agg(m.printed, ', ' order by m.ordinal), w.count, w.place - 1
            )
            from mapped as m
        )
        when k.name is not null then format('(%s)', coalesce(
            nullif(concat_ws(' and ',
                (select format('t.%I%s >= %s', k.name, k.collation, c.value) from cut as c where c.place = w.place - 1),
                (select format('t.%I%s < %s', k.name, k.collation, c.value) from cut as c where c.place = w.place)
            ) || case when w.place = 1 then format(' or t.%I is null', k.name) else '' end, ''),
            'true'
        ))
    end as condition,
    coalesce((
        select 'select coalesce(bool_and(c.value > c.before), true) as is_ascending from (values '
            || string_agg(format('(%s, %s)', c.value, c.before), ', ' order by c.place) || ') as c (value, before)'
        from (select c.place, c.value, lag(c.value, 1, c.none) over (order by c.place) as before from cut as c) as c
    ), 'select true as is_ascending') as cuts_query
from relation as r
cross join wanted as w
left join cut_column as k on true;
