create or replace function tidemark.export_parts(
    p_dimension_name text,
    p_columns text []
)
returns table (
    part text,
    versions bigint,
    digest text,
    odd_columns text [],
    bytes bigint,
    most_bytes integer
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The parts of a history, as they are exported: ended versions by the month of their end (2026-02, by the clock of the column; of years
-- before 1: 0000-00, after 9999: 9999-13, so that names have the order of times), and those in force (current, also where there is none).
-- Of each, how many versions there are, a digest of these columns, which of them hold a value that their type of Parquet does not,
-- and the bytes of all rows and of the largest as text.
-- A null adds nothing to the digest: it stays what it was when a column is added, until that has a value. Reads the whole history, once.
-- Errors: TM002 unknown dimension; insufficient_privilege.
declare
    v_history regclass;
    v_digested text;
    v_odd text;
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    select d.history_relation into v_history from tidemark.dimensions as d where d.dimension_name = p_dimension_name;
    -- Of texts the length is a part: none can be read as another column. A function takes a hundred arguments.
    -- "concat" prints as COPY does, where a cast to text would cut blanks, or be one that somebody made.
    select format('concat_ws(e''\x1e'', %s)', string_agg(p.members, ', ' order by p.piece))
    into v_digested
    from (
        select (c.place - 1) / 50 as piece, format('concat_ws(e''\x1e'', %s)', string_agg(
            case
                when e.parquet_type <> 'VARCHAR' then format('%L || h.%2$I::text', c.name || '=', c.name)
                when e.type_id in ('text'::regtype, 'varchar'::regtype)
                    then format('%L || length(h.%2$I) || '':'' || h.%2$I', c.name || '=', c.name)
                else format(
                    'case num_nonnulls(h.%2$I) when 1 then %1$L || length(concat(h.%2$I)) || '':'' || concat(h.%2$I) end',
                    c.name || '=', c.name
                )
            end,
            ', ' order by c.place
        )) as members
        from unnest(p_columns) with ordinality as c (name, place)
        join tidemark._exported_columns(p_dimension_name, '{}') as e on e.name = c.name
        group by (c.place - 1) / 50
    ) as p;
    select string_agg(
        format(
            'case when bool_or(%s) then %L end',
            format(
                case
                    when e.type_id = 'numeric'::regtype then 'h.%I = ''NaN'''
                    when e.type_id = 'time'::regtype then 'h.%I = ''24:00'''
                    else 'h.%I < ''0001-01-01'' or h.%1$I >= ''10000-01-01'''
                end,
                e.name
            ),
            e.name
        ),
        ', ' order by e.place
    )
    into v_odd
    from tidemark._exported_columns(p_dimension_name, '{}') as e
    where e.name = any (p_columns) and e.parquet_type is not null and tidemark._odd_values(e.type_id) is not null;
    return query execute format(
        $query$
        with version as (
            select h.*, (%s collate "C") as "its text",
                case
                    when h.valid_to is null then 'current'
                    when h.valid_to < '0001-01-01' then '0000-00'
                    when h.valid_to >= '10000-01-01' then '9999-13'
                    else to_char(h.valid_to, 'YYYY-MM')
                end as "its part"
            from (select %s from %s as h) as h
        ),
        found as (
            select h."its part" as part, count(*) as versions,
                format('%%s %%s', sum(hashtextextended(h."its text", 0)), sum(hashtextextended(h."its text", 1))) as digest,
                array_remove(array[%s]::text[], null) as odd_columns,
                sum(octet_length(h."its text"))::bigint as bytes, max(octet_length(h."its text")) as most_bytes
            from version as h
            group by h."its part"
        )
        select f.* from found as f
        union all
        select 'current', 0, ' ', '{}', 0, 0 where not exists (select from found as f where f.part = 'current')
        order by 1
        $query$,
        v_digested, (select string_agg(format('h.%I', c.name), ', ') from unnest(p_columns) as c (name)), v_history, v_odd
    );
end;
$$;
