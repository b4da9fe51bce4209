-- Reads a source table from its catalog and writes the queries that extract it. One row; none where the table is missing.
-- $1 schema, $2 table, $3 mapping (json array of {"source", "history", "role"}), $4 time zone of timestamps without zone,
-- $5 the column that marks deleted rows (null: none does) and $6 its values that mean deleted (json array; null: any but null): such a
-- row is read as a DELETE, with all its columns, $7 the condition that a row belongs to the shard that is asked for
-- (sql/source/describe_shard.sql; null: the whole table), which all but the keyed page heed, $8 history columns that are to be filled (json
-- array; null: none): a row in which one of them is not null is read whatever transaction wrote it,
-- $9 'true' where the rows of tables that inherit from it are read with its own.
-- A page query takes:  $1 floor and $2 high watermark of the sweep before (null: from the beginning), $3 margin in seconds,
--   $4 lower bound on the transaction, $5 the transaction the sweep ends before, $6 most rows, $7 most bytes,
--   $8 extracted_at, $9 floor of this sweep, $10 known rows (json array), $11 snapshot that the sweep began with;
--   the next page also $12 time and $13 key (json array) of the last row before it.
-- It returns the change lines as text: PostgreSQL renders every value, and no client reads one.
-- Each row is found, ordered, printed and counted in one pass, in which only the rows themselves may be sorted, never what was printed of
-- them: each step keeps the order of the one before. Parameters stand in the conditions themselves, so that the plan is one for their
-- values; "parameters", which nothing reads, gives them their types.
-- Bytes are counted before rows are printed (as many as texts have at least) and after, so that few are printed in vain.
-- Known rows are what a page gives to the next one, of this sweep or another: key, transaction and table of rows that were written, of
-- those a later sweep may find again, because a transaction older than theirs was open. Such a row is read and not written: two states
-- of one row that others can see differ in their transaction. At most 10,000 rows, the newest, none whose key takes over 100 bytes.
-- Rows with an effective time come in the order of (time, key); those without one are a pass of their own, in the order of the key, and
-- take their capture as it. Where no column is the effective time, all rows are of that pass.
-- A column that is both part of the key and the effective time is mapped twice, and printed once.
-- counters: an imprint of how much was ever written to the table, as PostgreSQL counts it, and of the files it is in. While it stands
-- still, nothing was written, but by sessions that have not yet told: most do within ten seconds, all when the transaction that follows
-- ends. When counters were last reset, as after a crash, is part of it. Null where nothing is counted.
-- The keyed page reads the rows of some keys ($12, json array of keys, each the text of a json array) whatever their time.
-- A row's transaction is widened to 64 bits by its distance from the next one. Where transaction numbers mean nothing (fallback), the
-- queries look at times alone, and $4, $5, $9, $10 and $11 are idle.
-- readable: of a source in SQL_ASCII, which takes any bytes, the pattern of texts that are valid UTF-8; null elsewhere. A row with a value
-- that is not is printed without it, as an operation UNREADABLE, which no history takes: the value stands, escaped, in a member
-- "unreadable". The keyed page leaves such rows out. Keys that say where a page ended are escaped too.
-- Nothing is read but the columns of the mapping, xmin and tableoid, so that rights on these suffice. LOCK TABLE wants a right on the whole
-- table: is_lockable.
with recursive relation as (
    select c.oid, c.relkind, format('%I.%I', n.nspname, c.relname) as name,
        format('%s%I.%I', case when c.relkind = 'r' and not $9::text::boolean then 'only ' end, n.nspname, c.relname) as rows,
        case
            when pg_is_in_recovery() then 'the server is a standby'
            when c.relkind = 'v' then 'it is a view'
            when c.relkind = 'm' then 'it is a materialized view'
            when c.relkind = 'f' then 'it is a foreign table'
            when not (has_column_privilege(c.oid, 'xmin', 'select') and has_column_privilege(c.oid, 'tableoid', 'select'))
                then format('it is granted by columns (grant select (xmin, tableoid) on %I.%I to %I)', n.nspname, c.relname, current_user)
        end as fallback
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = $1::text and c.relname = $2::text and c.relkind in ('r', 'p', 'v', 'm', 'f')
),
present as (
    select
        a.attname::text as name, a.attnum, a.attnotnull, has_column_privilege(a.attrelid, a.attnum, 'select') as is_granted,
        pg_catalog.format_type(a.atttypid, a.atttypmod) as type,
        pg_catalog.format_type(a.atttypid, -1) as bare_type,
        b.base_type,
        t.typlen = -1 and t.oid <> 'numeric'::regtype
            and not (t.oid in ('varchar'::regtype, 'bpchar'::regtype) and a.atttypmod between 0 and 1004) as is_wide
    from pg_catalog.pg_attribute as a
    join pg_catalog.pg_type as t on t.oid = a.atttypid
    cross join lateral (
        -- A domain may be over a domain.
        with recursive step (type_id, depth) as (
            select t.oid, 0
            union all
            select d.typbasetype, s.depth + 1 from step as s join pg_catalog.pg_type as d on d.oid = s.type_id and d.typtype = 'd'
        )
        select s.type_id::regtype as base_type from step as s order by s.depth desc limit 1
    ) as b
    where a.attrelid = (select r.oid from relation as r) and a.attnum > 0 and not a.attisdropped
),
mapped as (
    select m.ordinal, m.source as name, m.history, m.role,
        row_number() over (partition by m.source order by m.ordinal) = 1 as is_first,
        bool_or(m.role = 'effective time') over (partition by m.source) as is_time,
        p.type, p.bare_type, p.base_type, p.attnum, p.attnotnull, p.is_granted,
        p.base_type = any (array[
            'smallint', 'integer', 'bigint', 'real', 'double precision', 'numeric', 'boolean', 'timestamp', 'timestamptz'
        ]::regtype[]) as is_json_scalar,
        p.is_wide
    from rows from (json_to_recordset($3::text::json) as (source text, history text, role text))
        with ordinality as m (source, history, role, ordinal)
    left join present as p on p.name = m.source
),
-- What lies behind the table: its partitions, or itself. Statistics of a table that was never analysed say -1.
size as (
    select
        case when min(c.reltuples) >= 0 then sum(c.reltuples)::float8 end as estimated_rows,
        coalesce(sum(pg_relation_size(c.oid)), 0) as bytes
    from relation as r
    join pg_catalog.pg_class as c on c.oid = r.oid or c.oid in (select t.relid from pg_partition_tree(r.oid) as t)
    where c.relkind = 'r'
),
-- Its partitions, and tables that inherit from it.
descendant (oid) as (
    select r.oid from relation as r
    union
    select i.inhrelid from descendant as d join pg_catalog.pg_inherits as i on i.inhparent = d.oid
),
counter as (
    select case when current_setting('track_counts')::boolean and bool_and(c.relkind in ('r', 'p')) then md5(string_agg(
        format(
            '%s %s %s %s %s', c.oid, pg_relation_filenode(c.oid), pg_stat_get_tuples_inserted(c.oid), pg_stat_get_tuples_updated(c.oid),
            pg_stat_get_tuples_deleted(c.oid)
        ),
        ', ' order by c.oid
    ) || format(' %s %s', max(pg_stat_get_db_stat_reset_time(b.oid)), max(w.stats_reset))) end as counters
    from descendant as d
    join pg_catalog.pg_class as c on c.oid = d.oid
    join pg_catalog.pg_database as b on b.datname = current_database()
    cross join pg_catalog.pg_stat_bgwriter as w
),
-- Where no column is the effective time, none can serve.
index_state as (
    select not exists (select from mapped as m where m.role = 'effective time') or exists (
        select
        from pg_catalog.pg_index as i
        join mapped as m on m.role = 'effective time' and m.attnum = i.indkey[0]
        where i.indrelid = (select r.oid from relation as r) and i.indisvalid and i.indpred is null
    ) as has_serving_index
),
readable as (
    select case when current_setting('server_encoding') = 'SQL_ASCII' then
        '^([\x01-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]'
            || '|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})*$'
    end as pattern
),
-- How a key is printed where a page ends, and read where the next one begins.
escaped as (
    select
        case when r.pattern is null then 't.%I::text' else 'encode(convert_to(t.%I::text, ''SQL_ASCII''), ''escape'')' end as printed,
        case when r.pattern is null then '(%s)::%s' else 'convert_from(decode(%s, ''escape''), ''SQL_ASCII'')::%s' end as read
    from readable as r
),
part as (
    select
        string_agg(format(case when m.is_json_scalar then 't.%1$I' else 't.%1$I::text as %1$I' end, m.name), ', ' order by m.ordinal)
            filter (where m.is_first) as printed,
        string_agg(format('t.%I', m.name), ', ' order by m.ordinal) filter (where m.is_first) as columns,
        string_agg(format('t.%I', m.name), ', ' order by m.ordinal) filter (where m.role = 'business key') as keys,
        string_agg(format(e.printed, m.name), ', ' order by m.ordinal) filter (where m.role = 'business key') as keys_as_text,
        string_agg(format(e.read, format('$13::text::json ->> %s', m.key_place - 1), m.type), ', ' order by m.ordinal)
            filter (where m.role = 'business key') as last_keys,
        string_agg(format('(w.key::json ->> %s)::%s', m.key_place - 1, m.type), ', ' order by m.ordinal)
            filter (where m.role = 'business key') as wanted_keys,
        max(format('t.%I', m.name)) filter (where m.role = 'effective time') as effective,
        coalesce(max(m.type) filter (where m.role = 'effective time'), 'timestamptz') as effective_type,
        bool_or(m.role = 'effective time') as has_effective,
        not coalesce(bool_and(m.attnotnull) filter (where m.role = 'effective time'), false) as may_be_undated,
        bool_or(m.role = 'effective time' and m.base_type = 'timestamp'::regtype) as is_local_time,
        case
            when bool_or(m.role = 'effective time' and m.base_type = 'timestamp'::regtype) then format(' at time zone %L', $4::text)
            else ''
        end as in_zone,
        '(select n.number from next_transaction as n) - (age(t.xmin)::bigint & 4294967295)' as written_by,
        string_agg(format(case
            when m.base_type = any (array['text', 'varchar', 'bpchar', 'bytea']::regtype[]) then 'coalesce(octet_length(t.%I), 0)'
            else 'coalesce(pg_column_size(t.%I), 0)'
        end, m.name), ' + ' order by m.ordinal) filter (where m.is_wide and m.is_first) as wide_bytes,
        string_agg(format(
            '((array_agg(%s) filter (where t.tidemark_is_read))[count(*) filter (where t.tidemark_is_read)])::text',
            format(case when m.is_json_scalar then 't.%I' else e.printed end, m.name)
        ), ', ' order by m.ordinal) filter (where m.role = 'business key') as last_read_keys,
        max(format('t.%I', m.name)) filter (where m.role = 'insert time') as inserted,
        max(case
            when $6::text is null then format('t.%I is not null', m.name)
            else format(
                'coalesce(t.%I = any (%L::text[]::%s[]), false)', m.name,
                (select array_agg(v.value) from json_array_elements_text($6::text::json) as v (value))::text, m.bare_type
            )
        end) filter (where m.name = $5::text) as is_deleted,
        max(m.bare_type) filter (where m.name = $5::text) as deleted_type,
        'num_nonnulls(' || string_agg(format('t.%I', m.name), ', ' order by m.ordinal) filter (
            where m.role in ('tracked', 'untracked')
                and m.history in (select f.name from json_array_elements_text($8::text::json) as f (name))
        ) || ') > 0' as is_filling,
        bool_or(m.attnotnull) filter (where m.name = $5::text) as is_always_marked
    from (select m.*, count(*) filter (where m.role = 'business key') over (order by m.ordinal) as key_place from mapped as m) as m
    cross join escaped as e
),
query as (
    select v.page, format(
        $query$
with parameters as (
    select $1::timestamptz as floor, $2::%4$s as high_watermark, $3::double precision as margin_seconds, $4::bigint as from_transaction,
        $5::bigint as before_transaction, $6::bigint as most_rows, $7::bigint as most_bytes, $8::timestamptz as extracted_at,
        $9::timestamptz as own_floor, $10::text as known_rows, $11::pg_snapshot as snapshot
),
next_transaction as (
    select pg_snapshot_xmax(s)::text::bigint + age(pg_snapshot_xmax(s)::xid) as number from pg_current_snapshot() as s
),
known as (
    select e.value ->> 0 as key, (e.value ->> 1)::bigint as written_by, e.value ->> 2 as relation
    from json_array_elements($10::json) as e (value)
),
page as (
    select %13$s, %6$s as tidemark_written_by, %7$s as tidemark_relation
    from %1$s as t
    where %5$s
    order by %2$s
    limit $6
),
measured as (
    select t.*, %8$s as tidemark_bytes_before,
        case when t.tidemark_written_by >= pg_snapshot_xmin($11)::text::bigint or $10 <> '[]' then json_build_array(%9$s)::text end
            as tidemark_key
    from page as t
),
printed as (
    select t.*, case
        when t.tidemark_bytes_before > $7 then null
        when $10 <> '[]' and (t.tidemark_key, t.tidemark_written_by, t.tidemark_relation::text)
            in (select k.key, k.written_by, k.relation from known as k) then null
        else %14$s
    end as tidemark_line
    from measured as t
    cross join lateral (select %10$s, %11$s, $8 as extracted_at) as r
    order by %2$s
),
fitted as (
    select t.*, row_number() over page_order = 1
        or t.tidemark_bytes_before <= $7 and coalesce(sum(octet_length(t.tidemark_line) + 2) over page_order, 0) <= $7 as tidemark_is_read
    from printed as t
    window page_order as (order by %2$s rows unbounded preceding)
)
select p.lines, p.change_count, p.rows_read, p.newest_writer, p.has_more, p.last_row, (
    select coalesce(json_agg(json_build_array(n.key::json, n.written_by, n.relation)), '[]')::text
    from (
        select m.*
        from (
            select distinct on (k.key collate "C") k.*
            from (
                select e.value ->> 0 as key, (e.value ->> 1)::bigint as written_by, e.value ->> 2 as relation
                from json_array_elements(p.read_rows) as e (value)
                union all
                select k.* from known as k where k.written_by >= least($4, pg_snapshot_xmin($11)::text::bigint)
            ) as k
            order by k.key collate "C", k.written_by desc
        ) as m
        order by m.written_by desc
        limit 10000
    ) as n
) as known_rows
from (
    select
        string_agg(t.tidemark_line, E',\n') filter (where t.tidemark_is_read) as lines,
        count(t.tidemark_line) filter (where t.tidemark_is_read)::integer as change_count,
        count(*) filter (where t.tidemark_is_read)::integer as rows_read,
        (max(t.tidemark_written_by) filter (where t.tidemark_is_read and t.tidemark_line is not null))::text as newest_writer,
        count(*) filter (where t.tidemark_is_read) = $6 or coalesce(not bool_and(t.tidemark_is_read), false) as has_more,
        case when count(*) > 0 then json_build_object(
            'time', (array_agg(%3$s) filter (where t.tidemark_is_read))[count(*) filter (where t.tidemark_is_read)],
            'key', json_build_array(%12$s)
        ) end as last_row,
        json_agg(json_build_array(t.tidemark_key, t.tidemark_written_by, t.tidemark_relation::text)) filter (
            where t.tidemark_is_read and t.tidemark_written_by >= pg_snapshot_xmin($11)::text::bigint
                and octet_length(t.tidemark_key) <= 100
        ) as read_rows
    from fitted as t
) as p
        $query$,
        r.rows,
        o.page_order, coalesce(p.effective, 'null::timestamptz'), p.effective_type,
        coalesce(nullif(concat_ws(E'\n        and ',
            case
                when v.page = 'keyed'
                    then format('(%s) in (select %s from json_array_elements_text($12::text::json) as w (key))', p.keys, p.wanted_keys)
                when v.is_dated then format(
                    '%s >= coalesce(least($1%s, $2) - make_interval(secs => $3)%s, ''-infinity'')', p.effective, p.in_zone,
                    case when p.is_local_time and $4::text <> 'UTC' then ' - interval ''1 hour''' else '' end
                )
                when p.has_effective then format('%s is null', p.effective)
            end,
            case when v.page <> 'keyed' then $7::text end,
            case when v.page <> 'keyed' and r.fallback is null then format(
                E'($4 is null or %1$s >= $4%3$s)\n        and (%2$s%1$s < $5)', p.written_by,
                case when v.is_dated then format('%s < $9%s or ', p.effective, p.in_zone) else '' end,
                ' or ' || p.is_filling
            ) end,
            case
                when not v.is_next then null
                when v.is_dated then format('(%s, %s) > ($12::%s, %s)', p.effective, p.keys, p.effective_type, p.last_keys)
                else format('$12::text is null and (%s) > (%s)', p.keys, p.last_keys)
            end
        ), ''), 'true'),
        case when r.fallback is null then p.written_by else 'null::bigint' end,
        case when r.fallback is null then 't.tableoid' else 'null::oid' end,
        case
            when p.wide_bytes is null then '0'
            else format(
                'coalesce(sum(%s) over (order by %s rows between unbounded preceding and 1 preceding), 0)', p.wide_bytes, o.page_order
            )
        end,
        p.keys_as_text, p.printed,
        format(
            case
                when p.inserted is null then 'case %3$s else ''UPDATE'' end as operation_type, %1$s as cdc_timestamp'
                else 'case %3$s when %1$s <= %2$s then ''INSERT'' else ''UPDATE'' end as operation_type, '
                    || 'case when %1$s <= %2$s then %2$s else %1$s end as cdc_timestamp'
            end,
            e.effective, p.inserted, format('when %s then ''DELETE''', coalesce(p.is_deleted, 'false'))
        ),
        p.last_read_keys, p.columns,
        case when u.pattern is null then 'row_to_json(r.*)::text' else format(
            $line$case when row_to_json(r.*)::text collate "C" ~ %1$L then row_to_json(r.*)::text%2$s end$line$,
            u.pattern,
            case when v.page <> 'keyed' then format(
                $line$ else (
            select concat(
                '{', string_agg(
                    to_json(e.key) || ':' || case e.key when 'operation_type' then '"UNREADABLE"' else e.value::text end, ','
                ) filter (where o.is_readable),
                ',"unreadable":', json_object_agg(e.key, encode(convert_to(e.value #>> '{}', 'SQL_ASCII'), 'escape'))
                    filter (where not o.is_readable), '}'
            )
            from json_each(row_to_json(r.*)) as e
            cross join lateral (select e.value::text collate "C" ~ %1$L as is_readable) as o
        )$line$,
                u.pattern
            ) end
        ) end
    ) as text
    from part as p
    cross join relation as r
    cross join readable as u
    cross join lateral (
        select case
            when not p.has_effective then '$8'
            when p.may_be_undated then format('coalesce(%s, $8%s)', p.effective, p.in_zone)
            else p.effective
        end as effective
    ) as e
    cross join lateral (
        values
        ('first', true, false), ('next', true, true), ('first undated', false, false), ('next undated', false, true),
        ('keyed', p.has_effective, false)
    ) as v (page, is_dated, is_next)
    cross join lateral (select case when v.is_dated then format('%s, %s', p.effective, p.keys) else p.keys end as page_order) as o
    where p.has_effective or not v.is_dated
)
select
    (select r.name from relation as r) as relation,
    (select r.oid::text from relation as r) as relation_oid,
    (select r.rows from relation as r) as rows,
    (
        select format(
            'select %1$s, count(*) from %2$s as t group by %1$s having count(*) > 1 or num_nulls(%1$s) > 0', p.keys, r.rows
        )
        from part as p
        cross join relation as r
    ) as repeated_keys,
    (select r.fallback from relation as r) as fallback,
    (select r.pattern from readable as r) as readable,
    (select p.may_be_undated from part as p) as may_be_undated,
    (select not p.has_effective from part as p) as is_timeless,
    (select c.counters from counter as c) as counters,
    (select p.is_deleted from part as p) as deleted_condition,
    (select p.deleted_type from part as p) as deleted_type,
    (select p.is_always_marked and $6::text is null from part as p) as is_always_deleted,
    (select r.relkind in ('r', 'p') and has_table_privilege(r.oid, 'select') from relation as r) as is_lockable,
    (select r.relkind in ('v', 'm', 'f') from relation as r) as is_keyless_kind,
    (select s.estimated_rows from size as s) as estimated_rows,
    (select q.has_serving_index from index_state as q) as has_serving_index,
    (select s.bytes >= 8 * 1024 * 1024 from size as s) and not (select q.has_serving_index from index_state as q) as lacks_index,
    (
        select format(
            'create index %son %s (%s, %s)', case when r.relkind = 'r' then 'concurrently ' else '' end, r.name,
            string_agg(quote_ident(m.name), ', ' order by m.ordinal) filter (where m.role = 'effective time'),
            string_agg(quote_ident(m.name), ', ' order by m.ordinal) filter (where m.role = 'business key' and not m.is_time)
        )
        from mapped as m
        cross join relation as r
        group by r.relkind, r.name
    ) as index_statement,
    (select json_agg(m.name order by m.ordinal) from mapped as m where m.type is not null and m.is_first) as columns,
    (select array_agg(m.name order by m.ordinal) from mapped as m where m.type is null and m.is_first) as missing_columns,
    (select array_agg(m.name order by m.ordinal) from mapped as m where not m.is_granted and m.is_first) as ungranted_columns,
    (
        select format('grant select%s on %s to %I',
            case when has_any_column_privilege(r.oid, 'select') then
                format(' (%s)', string_agg(quote_ident(m.name), ', ' order by m.ordinal) filter (where not m.is_granted and m.is_first))
            end, r.name, current_user)
        from mapped as m
        cross join relation as r
        group by r.oid, r.name
    ) as grant_statement,
    (select array_agg(p.name order by p.attnum) from present as p where p.name not in (select m.name from mapped as m))
        as unmapped_columns,
    exists (
        select
        from pg_catalog.pg_index as i
        where i.indrelid = (select r.oid from relation as r) and i.indisunique and i.indisvalid and i.indpred is null
            and (select array_agg(k.attnum order by k.attnum) from unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
                where k.place <= i.indnkeyatts)
                = (select array_agg(m.attnum order by m.attnum) from mapped as m where m.role = 'business key')
    ) and not exists (select from mapped as m where m.role = 'business key' and not m.attnotnull)
        and not ($9::text::boolean and exists (
            select
            from pg_catalog.pg_inherits as i
            join relation as r on r.oid = i.inhparent and r.relkind = 'r'
        )) as has_unique_key,
    (
        select encode(sha256(convert_to(string_agg(format('%I %s', m.name, m.type), ', ' order by m.ordinal), 'UTF8')), 'hex')
        from mapped as m
        where m.is_first
    ) as columns_fingerprint,
    (select json_object_agg(m.name, m.type order by m.ordinal) from mapped as m where m.type is not null and m.is_first)
        as column_types,
    (
        select json_object_agg(m.name, m.history order by m.ordinal) filter (where m.role in ('business key', 'tracked', 'untracked'))
        from mapped as m
    ) as history_columns,
    (select q.text from query as q where q.page like 'first%' order by q.page limit 1) as first_page,
    (select q.text from query as q where q.page like 'next%' order by q.page limit 1) as next_page,
    (select q.text from query as q where q.page = 'first undated') as first_undated_page,
    (select q.text from query as q where q.page = 'next undated') as next_undated_page,
    (select q.text from query as q where q.page = 'keyed') as keyed_page
where exists (select from relation);
