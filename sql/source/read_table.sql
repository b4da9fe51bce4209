-- What source tables are, from the catalog. A row for each that was asked for: "described", one JSON document, null where there is no such
-- relation, and "alike", the relations that are called so in other letters or another schema. Everything is a name or a type: no value.
-- $1 json array of {"schema", "table"}, $2 types of history (json array of format_type of each) of which is asked whether a column fits
-- into them. One query for all of them: seventy tables take little longer than one.
-- Run it with search_path = pg_catalog, so that every type outside it is printed with its schema.
-- Of a column: type is what history can hold of it, as people write it: a domain is looked through to the type and modifier beneath it,
-- inside an array too. as_text says why that can be but text; outside is the type where it is none of pg_catalog, which a warehouse may
-- have or not. fits are those of $2 that hold every value of it, as PostgreSQL prints it, so that it prints the same; holds are those of $2
-- of which it holds every value; widens are those which become it without a row rewritten, as tidemark._is_widened has it. time_type is
-- timestamp or timestamptz, key_fault why it cannot be part of a key: equal values of it may be two texts, as
-- tidemark._is_printed_as_equal has it, or it has no order.
with recursive wanted as (
    select w.schema, w.table, w.place
    from rows from (json_to_recordset($1::text::json) as (schema text, "table" text)) with ordinality as w (schema, "table", place)
),
relation as (
    select c.oid, c.relkind, n.nspname, c.relname, w.place,
        c.relkind = 'r' and exists (select from pg_catalog.pg_inherits as i where i.inhparent = c.oid) as has_children
    from wanted as w
    join pg_catalog.pg_namespace as n on n.nspname = w.schema
    join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = w.table and c.relkind in ('r', 'p', 'v', 'm', 'f')
),
step as (
    select r.oid as relation, a.attnum, a.atttypid as type_id, a.atttypmod as modifier, false as is_array, 1 as depth
    from relation as r
    join pg_catalog.pg_attribute as a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
    union all
    select
        s.relation,
        s.attnum,
        case when t.typtype = 'd' then t.typbasetype else t.typelem end,
        case when t.typtype = 'd' then t.typtypmod else s.modifier end,
        s.is_array or t.typtype <> 'd',
        s.depth + 1
    from step as s
    join pg_catalog.pg_type as t on t.oid = s.type_id
    left join pg_catalog.pg_type as element on element.oid = t.typelem and element.typarray = t.oid
    where t.typtype = 'd' or (element.oid is not null and not s.is_array)
),
resolved as (
    select distinct on (s.relation, s.attnum) s.relation, s.attnum, s.type_id, s.modifier, s.is_array
    from step as s
    order by s.relation, s.attnum, s.depth desc
),
typed as (
    select r.relation, r.attnum, t.typname, n.nspname,
        format_type(r.type_id, r.modifier) || case when r.is_array then '[]' else '' end as type,
        case
            when (r.is_array and element.oid is not null) or t.typtype not in ('b', 'e', 'r', 'm')
                then 'it has no type of its own that history could share'
            -- Their text means something in one database only, or depends on its settings or on how its server was built.
            when n.nspname = 'pg_catalog'
                and t.typname ~ '^(reg[a-z]+|money|xml|xid|xid8|cid|tid|aclitem|pg_node_tree|pg_snapshot|txid_snapshot)$'
                then 'its values mean something in their own database only'
        end as as_text,
        t.typcategory = 'S' and not r.is_array as is_textual,
        (select json_agg(e.enumlabel order by e.enumsortorder) from pg_catalog.pg_enum as e where e.enumtypid = t.oid) as labels
    from resolved as r
    join pg_catalog.pg_type as t on t.oid = r.type_id
    join pg_catalog.pg_namespace as n on n.oid = t.typnamespace
    left join pg_catalog.pg_type as element on element.oid = t.typelem and element.typarray = t.oid
),
asked as (
    select h.type from json_array_elements_text($2::text::json) as h (type)
),
-- timestamp(3) with time zone is "timestamp with time zone" of length 3; of a numeric the length is its precision.
part as (
    select p.type, b.base, p.type like '%[]' as is_array, m.parts[1]::numeric as length, coalesce(m.parts[2]::numeric, 0) as scale,
        case b.base when 'smallint' then 5 when 'integer' then 10 when 'bigint' then 19 end as digits
    from (select t.type from typed as t union select k.type from asked as k) as p
    cross join lateral (select trim(regexp_replace(p.type, '\([^)]*\)|\[\]$', '', 'g')) as base) as b
    cross join lateral (select regexp_match(p.type, '\((-?\d+)(?:,(-?\d+))?\)') as parts) as m
),
fit as (
    select f.type as inner_type, t.type as outer_type
    from part as f
    cross join part as t
    where f.type = t.type or case
        when t.base in ('text', 'character varying') and t.length is null and (f.is_array or not t.is_array) then true
        when f.is_array <> t.is_array then false
        -- A scale that is not the same would print other zeros.
        when t.base = 'numeric' then (f.base = 'numeric' or f.digits is not null) and (
            t.length is null or (f.scale = t.scale and t.length - t.scale >= coalesce(f.digits, f.length) - f.scale)
        )
        when f.digits is not null then f.digits <= coalesce(t.digits, case t.base when 'double precision' then 10 else 0 end)
        when t.base = 'character varying' then f.base in ('character varying', 'character') and f.length <= t.length
        when (f.base, t.base) in (('real', 'double precision'), ('jsonb', 'json')) then true
        -- Precision of times, length of bit strings: none in history takes any.
        else f.base = t.base and (t.length is null or (f.base <> 'character' and f.length <= t.length))
    end
),
-- What each column consists of: domains, arrays, ranges and composites are looked through.
ingredient as (
    select a.attrelid as relation, a.attnum, a.atttypid as type_id, a.attcollation as collation_id, false as is_contained
    from relation as r
    join pg_catalog.pg_attribute as a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
    union
    select p.relation, p.attnum, i.type_id, i.collation_id, p.is_contained or t.typtype <> 'd'
    from ingredient as p
    join pg_catalog.pg_type as t on t.oid = p.type_id
    left join pg_catalog.pg_range as g on t.oid in (g.rngtypid, g.rngmultitypid)
    cross join lateral (
        select case when t.typtype = 'd' then t.typbasetype when t.typcategory = 'A' then t.typelem else g.rngsubtype end as type_id,
            case when g.rngtypid is null then p.collation_id else g.rngcollation end as collation_id
        union all
        select m.atttypid, m.attcollation
        from pg_catalog.pg_attribute as m
        where t.typtype = 'c' and m.attrelid = t.typrelid and m.attnum > 0 and not m.attisdropped
    ) as i
    where i.type_id <> 0
),
key_fault as (
    select p.relation, p.attnum, min(case
        -- Equal values of these may print in several ways: 1 day and 24:00, {"a": 1} and {"a": 1.0}, and, where no rule brings them to one
        -- form (tidemark._key_member), 1.0 and 1.00.
        when t.typname in ('citext', 'interval', 'jsonb') or not coalesce(l.collisdeterministic, true)
            or p.is_contained and t.typname in ('numeric', 'float4', 'float8', 'bpchar')
            then 'of its type or collation, values can be equal that are printed apart'
        when t.typtype = 'b' and t.typcategory <> 'A' and not exists (
            select
            from pg_catalog.pg_opclass as o
            join pg_catalog.pg_am as m on m.oid = o.opcmethod and m.amname = 'btree'
            left join pg_catalog.pg_cast as c on c.castsource = t.oid and c.casttarget = o.opcintype and c.castmethod = 'b'
                and c.castcontext = 'i'
            where o.opcdefault and (o.opcintype = t.oid or c.oid is not null)
        ) then 'its type has no order, by which keys are told apart'
    end) as fault
    from ingredient as p
    join pg_catalog.pg_type as t on t.oid = p.type_id
    left join pg_catalog.pg_collation as l on l.oid = p.collation_id
    group by p.relation, p.attnum
),
described as (
    select
        a.attrelid as relation,
        a.attnum,
        json_build_object(
            'name', a.attname,
            'declared', format_type(a.atttypid, a.atttypmod),
            'type', s.type,
            'time_type', substring(s.type from '^(timestamp|timestamptz)(?:\(\d\))?$'),
            'as_text', t.as_text,
            'outside', case when t.as_text is null and t.nspname <> 'pg_catalog'
                then json_build_object('type_schema', t.nspname, 'type_name', t.typname, 'labels', t.labels) end,
            'fits', (
                select coalesce(json_agg(f.outer_type), '[]')
                from fit as f
                where f.inner_type = t.type and f.outer_type in (select k.type from asked as k)
            ),
            'holds', (
                select coalesce(json_agg(f.inner_type), '[]')
                from fit as f
                where f.outer_type = t.type and f.inner_type in (select k.type from asked as k)
            ),
            'widens', (
                select coalesce(json_agg(f.inner_type), '[]')
                from fit as f
                join part as i on i.type = f.inner_type and i.length is not null and not i.is_array
                join part as o on o.type = f.outer_type
                where f.outer_type = t.type and f.inner_type <> f.outer_type and f.outer_type = format_type(a.atttypid, a.atttypmod)
                    and f.inner_type in (select k.type from asked as k)
                    and (
                        i.base = o.base and i.base ~ '^(character varying|bit varying|numeric|interval|time.*)$'
                        or (i.base, o.base) = ('character varying', 'text')
                    )
            ),
            'is_not_null', a.attnotnull,
            'is_generated', a.attgenerated <> '',
            'is_granted', has_column_privilege(a.attrelid, a.attnum, 'select'),
            'key_fault', k.fault,
            'is_textual', t.is_textual,
            'comment', col_description(a.attrelid, a.attnum)
        ) as facts
    from typed as t
    join pg_catalog.pg_attribute as a on a.attrelid = t.relation and a.attnum = t.attnum
    left join key_fault as k on k.relation = t.relation and k.attnum = t.attnum
    cross join lateral (
        select regexp_replace(regexp_replace(regexp_replace(regexp_replace(t.type,
            '^(timestamp|time)(\(\d\))? with time zone', '\1tz\2'), '^(timestamp|time)(\(\d\))? without time zone', '\1\2'),
            '^character varying', 'varchar'), '^character(?=\(|\[|$)', 'char') as type
    ) as s
),
keys as (
    select i.indrelid as relation, i.indisprimary, i.indexrelid, json_build_object(
        'columns', json_agg(a.attname order by k.place),
        'nullable', coalesce(json_agg(a.attname order by k.place) filter (where not a.attnotnull), '[]')
    ) as facts
    from pg_catalog.pg_index as i
    join relation as r on r.oid = i.indrelid
    cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
    join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null and k.place <= i.indnkeyatts
    group by i.indrelid, i.indisprimary, i.indexrelid
)
select
    w.schema,
    w.table,
    case when r.oid is not null then
        json_build_object(
            'schema', r.nspname,
            'table', r.relname,
            'kind', r.relkind,
            'comment', obj_description(r.oid, 'pg_class'),
            'remarks', array_remove(array[
                case when r.relkind in ('v', 'm', 'f') then format('%s.%s is no table: it does not show which transaction wrote a row, '
                    || 'and nothing there makes its key unique', r.nspname, r.relname) end,
                case when r.has_children then format('other tables inherit from %s.%s: their rows are read with its own only where '
                    || '--with-children says so, and its key does not hold for them', r.nspname, r.relname) end
            ], null),
            'has_children', r.has_children,
            'columns', coalesce(d.columns, '[]'),
            'unique_keys', coalesce(k.keys, '[]'),
            'keywords', (select json_agg(w.word) from pg_catalog.pg_get_keywords() as w where w.catcode <> 'U')
        )::text
    end as described,
    array(
        select format('%s.%s', n.nspname, c.relname)
        from pg_catalog.pg_class as c
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where lower(c.relname) = lower(w.table) and c.relkind in ('r', 'p', 'v', 'm', 'f')
            and n.nspname not in ('pg_catalog', 'information_schema')
        order by n.nspname, c.relname
        limit 5
    ) as alike
from wanted as w
left join relation as r using (place)
left join (
    select d.relation, json_agg(d.facts order by d.attnum) as columns from described as d group by d.relation
) as d on d.relation = r.oid
left join (
    select k.relation, json_agg(k.facts order by k.indisprimary desc, k.indexrelid) as keys from keys as k group by k.relation
) as k on k.relation = r.oid
order by w.place;
