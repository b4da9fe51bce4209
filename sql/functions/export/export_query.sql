create or replace function tidemark.export_query(
    p_dimension_name text,
    p_columns text [],
    p_part text
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The query of these columns of one part of a history (tidemark.export_parts), for COPY: by key, then from the oldest version on.
-- Errors: TM002 unknown dimension.
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    return (
        select format(
            'select %s from %s as h where %s order by %s, h.valid_from',
            (select string_agg(format('h.%I', c.name), ', ' order by c.place) from unnest(p_columns) with ordinality as c (name, place)),
            d.history_relation,
            case p_part
                when 'current' then 'h.valid_to is null'
                when '0000-00' then 'h.valid_to < ''0001-01-01'''
                when '9999-13' then 'h.valid_to >= ''10000-01-01'''
                else format(
                    'h.valid_to >= %1$L::timestamp%2$s and h.valid_to < (%1$L::timestamp + interval ''1 month'')%2$s',
                    p_part || '-01',
                    case when a.atttypid = 'timestamptz'::regtype then ' at time zone ''UTC''' else '' end
                )
            end,
            (
                select string_agg(format('h.%I', c.history_column), ', ' order by c.ordinal)
                from tidemark.dimension_columns as c
                where c.dimension_name = d.dimension_name and c.column_role = 'business key'
            )
        )
        from tidemark.dimensions as d
        join pg_attribute as a on a.attrelid = d.history_relation and a.attname = 'valid_to'
        where d.dimension_name = p_dimension_name
    );
end;
$$;
