create or replace function tidemark.export_columns(
    p_dimension_name text,
    p_odd_columns text [] default '{}',
    p_left_out text [] default '{}'
)
returns table (
    column_name text,
    column_type text,
    parquet_type text,
    text_because text,
    is_left_out boolean
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The columns of a history in files of Parquet, in their order: the type there, as DuckDB names it, that holds every value exactly; else
-- VARCHAR, the text that PostgreSQL prints, and why. Of p_odd_columns (of tidemark.export_parts) some value does not fit its type.
-- Columns that the caller may not read are left out, and those of p_left_out. Where any was left out before, so is every masked column:
-- whoever exports to that folder next may read more.
-- Errors: TM002 unknown dimension.
#variable_conflict use_column
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    return query
    select c.name, c.type_name,
        case when c.name = any (p_odd_columns) or c.parquet_type is null then 'VARCHAR' else c.parquet_type end,
        case
            when c.parquet_type is null and c.type_id = 'numeric'::regtype then 'it is not bound to 38 digits'
            when c.parquet_type is null then format('%s, as PostgreSQL prints it', c.type_name)
            when c.name = any (p_odd_columns) then 'it holds ' || tidemark._odd_values(c.type_id)
        end,
        c.is_left_out
    from tidemark._exported_columns(p_dimension_name, p_left_out) as c
    order by c.place;
end;
$$;

create or replace function tidemark._exported_columns(
    p_dimension_name text,
    p_left_out text []
)
returns table (
    place smallint,
    name text,
    type_id oid,
    type_name text,
    parquet_type text,
    is_left_out boolean
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The columns of a history, with the type of Parquet that holds their values, but for odd ones (tidemark._odd_values); null: there is none.
select a.attnum, a.attname::text, a.atttypid, format_type(a.atttypid, a.atttypmod),
    case
        when a.atttypid = 'numeric'::regtype
            then case
                when a.atttypmod >= 0 and n.digits <= 38 and n.scale between 0 and n.digits
                    then format('DECIMAL(%s,%s)', n.digits, n.scale)
            end
        else (
            select t.parquet_type
            from (
                values
                ('boolean'::regtype, 'BOOLEAN'), ('smallint', 'SMALLINT'), ('integer', 'INTEGER'), ('bigint', 'BIGINT'),
                ('real', 'FLOAT'), ('double precision', 'DOUBLE'), ('date', 'DATE'), ('time', 'TIME'), ('timestamp', 'TIMESTAMP'),
                ('timestamptz', 'TIMESTAMPTZ'), ('uuid', 'UUID'), ('bytea', 'BLOB'), ('text', 'VARCHAR'), ('varchar', 'VARCHAR'),
                ('bpchar', 'VARCHAR'), ('name', 'VARCHAR'), ('"char"', 'VARCHAR')
            ) as t (type_id, parquet_type)
            where t.type_id = a.atttypid
        )
    end,
    not has_column_privilege(d.history_relation, a.attnum, 'select')
    or a.attname = any (p_left_out)
    or cardinality(p_left_out) > 0 and exists (
        select
        from tidemark.dimension_columns as c
        where c.dimension_name = d.dimension_name and c.history_column = a.attname and c.masked_at is not null
    )
from tidemark.dimensions as d
join pg_attribute as a on a.attrelid = d.history_relation and a.attnum > 0 and not a.attisdropped
cross join lateral (select (a.atttypmod - 4) >> 16 as digits, (((a.atttypmod - 4) & 2047) # 1024) - 1024 as scale) as n
where d.dimension_name = p_dimension_name;
$$;

create or replace function tidemark._odd_values(
    p_type_id oid
)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- Which values of a type its type of Parquet does not hold, or not all readers read, in words; null: none.
select case
    when p_type_id = 'numeric'::regtype then 'NaN'
    when p_type_id = 'time'::regtype then '24:00:00'
    when p_type_id in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype) then 'infinity, or a year that is not of 1 to 9999'
end;
$$;
