-- Writes the queries that compare a source table with its history. One row. $1 relation (as describe_table.sql names it),
-- $2 columns in their order (json array of {"source", "role", "stored_type"}), $3 why its transactions mean nothing (null: they do).
-- Key and content are printed as history would print them: each value is cast by its text to the type it is stored with, and a member of
-- the key is brought to the one form in which tidemark._key_member prints it too.
-- $4 the column of the effective time (null: none is), $5 the zone of timestamps without one, $6 the condition of a row that is marked as
-- deleted, which counts as gone (null: none is), $7 what rows are read from, $8 the pattern of what is valid UTF-8 (null: all is; both as
-- describe_table.sql has them): what is not is shown with its bytes escaped.
-- checksums: $1 number of buckets. digests: $1 number of buckets, $2 wanted buckets (json array). states: $1 keys (json array of texts).
-- deletions: $1 keys, $2 an instant: one change line for every key that is not there, with the instant of its snapshot, or the first after
-- $2 if that is later; that is the bound on when the row was deleted, and its effective time.
with printed as (
    select m.ordinal, m.role,
        case
            when m.role <> 'business key' then format('%s::text', s.value)
            when s.type_id = 'numeric'::regtype then format('trim_scale(%s)::text', s.value)
            when s.type_id = any (array['real', 'double precision']::regtype[])
                then format('(%s + 0::%s)::text', s.value, s.type_id::regtype)
            else format('%s::text', s.value)
        end as text,
        format('(k.key ->> %s)::%s', count(*) filter (where m.role = 'business key') over (order by m.ordinal) - 1,
            format_type(a.atttypid, a.atttypmod)) as key_value,
        m.source,
        a.atttypid = any (array['smallint', 'integer', 'bigint', 'real', 'double precision', 'numeric', 'boolean', 'timestamp',
            'timestamptz']::regtype[]) as is_json_scalar
    from rows from (json_to_recordset($2::text::json) as (source text, role text, stored_type text))
        with ordinality as m (source, role, stored_type, ordinal)
    join pg_catalog.pg_attribute as a on a.attrelid = $1::text::regclass and a.attname = m.source and not a.attisdropped
    join pg_catalog.pg_type as y on y.oid = coalesce(to_regtype(m.stored_type)::oid, a.atttypid)
    cross join lateral (
        select coalesce(nullif(y.typbasetype, 0), y.oid) as type_id,
            case
                when m.stored_type = format_type(a.atttypid, a.atttypmod) or to_regtype(m.stored_type) is null then format('t.%I', m.source)
                else format('t.%I::text::%s', m.source, m.stored_type)
            end as value
    ) as s
),
part as (
    select
        format('json_build_array(%s)::text', string_agg(p.text, ', ' order by p.ordinal) filter (where p.role = 'business key')) as key,
        format('row(%s)::text', string_agg(p.text, ', ' order by p.ordinal)) as content,
        string_agg(format('t.%I = %s', p.source, p.key_value), ' and ' order by p.ordinal) filter (where p.role = 'business key') as is_key,
        string_agg(format(case when p.is_json_scalar then '%2$s as %1$I' else '(%2$s)::text as %1$I' end, p.source, p.key_value), ', '
            order by p.ordinal) filter (where p.role = 'business key') as key_columns,
        (
            select case when max(a.atttypid) = 'timestamp'::regtype then format('m.moment at time zone %L', $5::text) else 'm.moment' end
            from pg_catalog.pg_attribute as a
            where a.attrelid = $1::text::regclass and a.attname = $4::text
        ) as cdc_timestamp,
        case when $6::text is null then '' else format(' and not (%s)', $6::text) end as is_live
    from printed as p
)
select
    format(
        'select (hashtextextended(v.key, 0) & ($1::text::integer - 1))::integer as bucket, count(*)::text as row_count, '
            || 'format(''%%s %%s'', bit_xor(hashtextextended(v.content, 1)), bit_xor(hashtextextended(v.content, 2))) as checksum '
            || 'from (select %s as key, %s as content from %s as t where true%s) as v group by 1',
        p.key, p.content, $7::text, p.is_live
    ) as checksums,
    format(
        'select %5$s as key, format(''%%s %%s'', hashtextextended(v.content, 1), hashtextextended(v.content, 2)) as digest '
            || 'from (select %1$s as key, %2$s as content from %3$s as t where true%4$s) as v '
            || 'where (hashtextextended(v.key, 0) & ($1::text::integer - 1)) in '
            || '(select w.bucket::bigint from json_array_elements_text($2::text::json) as w (bucket))',
        p.key, p.content, $7::text, p.is_live, format(s.key, $8::text)
    ) as digests,
    format(
        'select %s as key, %s as content, %s as written_by from (select w.key::json as key from json_array_elements_text($1::text::json) '
            || 'as w (key)) as k join %s as t on %s',
        p.key, format(s.content, p.content, $8::text),
        case when $3::text is null then 't.xmin::text' else '''''' end, $7::text, p.is_key || p.is_live
    ) as states,
    format(
        'with m as materialized (select greatest(clock_timestamp(), $2::text::timestamptz + interval ''1 microsecond'') as moment) '
            || 'select string_agg(l.line, E'',\n'' order by l.key) as lines, count(*)::integer as change_count, '
            || 'to_json(max(l.moment)) #>> ''{}'' as extracted_at from (select k.key::text as key, m.moment, '
            || '(select row_to_json(r.*)::text from (select %s, ''DELETE'' as operation_type, %s as cdc_timestamp, '
            || 'm.moment as extracted_at) as r) as line from m '
            || 'cross join (select w.key::json as key from json_array_elements_text($1::text::json) as w (key)) as k '
            || 'where not exists (select from %s as t where %s)) as l',
        p.key_columns, p.cdc_timestamp, $7::text, p.is_key || p.is_live
    ) as deletions
from part as p
cross join (
    select
        case when $8::text is null then 'v.key' else 'case when v.key collate "C" ~ %1$L then v.key else ('
            || 'select json_agg(encode(convert_to(m.value, ''SQL_ASCII''), ''escape''))::text '
            || 'from json_array_elements_text(v.key::json) as m (value)) end' end as key,
        case when $8::text is null then '%1$s'
            else 'case when %1$s collate "C" ~ %2$L then %1$s else encode(convert_to(%1$s, ''SQL_ASCII''), ''escape'') end' end as content
) as s;
