create or replace function tidemark._column_expressions(
    p_dimension_name text
)
returns table (
    ordinal integer,
    source_column text,
    history_column text,
    column_role text,
    read_type text,
    full_type text,
    stored text,
    fits text,
    compare_change text,
    compare_history text,
    printed text,
    may_be_missing boolean
)
language sql
stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
-- How each mapped column that history stores is read from a batch, compared and printed: one row a column.
-- A domain is looked through to the type and modifier beneath it.
-- A change is called c and a version h; both have the column by its history name.
--   full_type        type of the history column
--   read_type        type in which json_to_recordset reads it: types that round silently without their modifier, json as text
--                    (else the quotes stay), timestamps with their offset (else it is dropped)
--   stored           expression over c that turns what was read into the history column's type
--   fits             condition over c: storing it loses nothing
--   compare_change   expression over c, and compare_history over h, whose equality means that PostgreSQL prints the same text:
--                    collation C, because a column's own collation would not compare with what was read, or call two texts equal
--   printed          expression over c that prints it as a batch file does
--   may_be_missing   whether there are, or may be, batches without the column
with recursive named as (
    select
        c.ordinal, c.source_column, c.history_column, c.column_role, c.may_be_missing,
        format_type(a.atttypid, a.atttypmod) as full_type,
        a.atttypid as type_id, a.atttypmod as modifier, false as is_domain
    from tidemark.dimension_columns as c
    join tidemark.dimensions as d on d.dimension_name = c.dimension_name
    join pg_attribute as a on a.attrelid = d.history_relation and a.attname = c.history_column
    where c.dimension_name = p_dimension_name and c.column_role in ('business key', 'tracked', 'untracked')
    union all
    select
        n.ordinal, n.source_column, n.history_column, n.column_role, n.may_be_missing, n.full_type,
        t.typbasetype, t.typtypmod, true
    from named as n
    join pg_type as t on t.oid = n.type_id
    where t.typtype = 'd'
),
classified as (
    select n.*,
        format_type(n.type_id, null) as bare_type,
        format_type(n.type_id, n.modifier) as limited_type,
        n.type_id in ('json'::regtype, 'jsonb'::regtype) as is_json,
        n.type_id = 'timestamp'::regtype as is_local_time,
        n.modifier <> -1 and case when t.typcategory = 'A' then t.typelem else t.oid end = any (array[
            'numeric', 'timestamp', 'timestamptz', 'time', 'timetz', 'interval'
        ]::regtype[]) as may_round,
        n.type_id = any (array[
            'smallint', 'integer', 'bigint', 'boolean', 'date', 'timestamp', 'timestamptz', 'uuid'
        ]::regtype[]) or (n.type_id = 'numeric'::regtype and n.modifier <> -1) as is_equal_as_printed,
        n.type_id in ('text'::regtype, 'varchar'::regtype) as is_text,
        n.type_id = any (array[
            'smallint', 'integer', 'bigint', 'real', 'double precision', 'numeric', 'boolean', 'timestamp', 'timestamptz'
        ]::regtype[]) as is_json_scalar
    from named as n
    join pg_type as t on t.oid = n.type_id
    where t.typtype <> 'd'
),
read as (
    select k.*,
        format(case when k.is_local_time then '(c.%I at time zone ''UTC'')' else 'c.%I' end, k.history_column) as as_read
    from classified as k
)
select
    r.ordinal, r.source_column, r.history_column, r.column_role,
    case
        when r.is_json then 'text'
        when r.is_local_time then 'timestamptz'
        when r.may_round then r.bare_type
        else r.full_type
    end,
    r.full_type,
    case when r.is_json or r.may_round or r.is_domain then format('%s::%s', r.as_read, r.full_type) else r.as_read end,
    case when r.may_round then format('%1$s is not distinct from %1$s::%2$s', r.as_read, r.limited_type) else 'true' end,
    format(
        case when r.is_equal_as_printed then 'c.%I' when r.is_text then 'c.%I collate "C"' else 'c.%I::text collate "C"' end,
        r.history_column
    ),
    format(
        case when r.is_equal_as_printed then 'h.%I' when r.is_text then 'h.%I collate "C"' else 'h.%I::text collate "C"' end,
        r.history_column
    ),
    format(case when r.is_json_scalar then 'c.%I' else 'c.%I::text' end, r.history_column),
    r.may_be_missing
from read as r
order by r.ordinal;
$$;
