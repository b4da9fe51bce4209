create or replace function tidemark.browse_columns(
    p_dimension_name text
)
returns table (
    column_name text,
    column_role text,
    type_name text,
    is_readable boolean,
    is_masked boolean,
    meaning text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The columns of a history that its readers are shown: those of the business key in their order, then tracked and untracked ones as they
-- are mapped. is_readable says whether the caller may read a column; what it may not read is never named in a query of this room;
-- is_masked, whether the column is to be kept from analysts (tidemark.mask_column).
-- Errors: TM002 unknown dimension.
#variable_conflict use_column
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    return query
    select c.history_column, c.column_role, format_type(a.atttypid, a.atttypmod),
        has_column_privilege(d.history_relation, a.attnum, 'select'), c.masked_at is not null, col_description(d.history_relation, a.attnum)
    from tidemark.dimensions as d
    join tidemark.dimension_columns as c on c.dimension_name = d.dimension_name
    join pg_attribute as a on a.attrelid = d.history_relation and a.attname = c.history_column
    where d.dimension_name = p_dimension_name and c.column_role in ('business key', 'tracked', 'untracked')
    order by c.column_role <> 'business key', c.ordinal;
end;
$$;

create or replace function tidemark._browse_parts(
    p_dimension_name text
)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
-- What differs from history to history in the queries of this room, for tidemark._laid_out. A column that the caller may not read is null.
-- In all of them $1 is a key as texts, $2 and $3 are moments, as timestamptz, of which times of the history without zone are of its source.
with shown as (
    select c.*, a.attnum, row_number() over () as place, format('h.%I', c.column_name) as name,
        format('($1)[%s]::%s', row_number() over (), format_type(a.atttypid, -1)) as given
    from tidemark.dimensions as d
    cross join lateral tidemark.browse_columns(d.dimension_name) as c
    join pg_attribute as a on a.attrelid = d.history_relation and a.attname = c.column_name
    where d.dimension_name = p_dimension_name
),
key as (
    select jsonb_build_object(
        'keys', jsonb_agg(s.name order by s.place),
        'key_texts', jsonb_agg(s.name || '::text' order by s.place),
        'key_given', jsonb_agg(s.given order by s.place),
        'same_key', jsonb_agg(format('%s = %s', s.name, s.given) order by s.place),
        'found_keys', jsonb_agg(format('k.%I', s.column_name) order by s.place),
        'joined_key', jsonb_agg(format('%s = k.%I', s.name, s.column_name) order by s.place)
    ) as parts
    from shown as s
    join tidemark.dimensions as d on d.dimension_name = p_dimension_name
    join pg_attribute as a on a.attrelid = d.history_relation and a.attnum = s.attnum
    where s.column_role = 'business key'
),
value as (
    select jsonb_build_object(
        'values', coalesce(jsonb_agg(case when s.is_readable then s.name || '::text' else 'null' end order by s.place), '["null"]'),
        'value_columns', coalesce(jsonb_agg(s.name order by s.place) filter (where s.is_readable), '["h.surrogate_key"]')
    ) as parts
    from shown as s
    where s.column_role <> 'business key'
)
select k.parts || v.parts || jsonb_build_object(
    'own', '_',
    'history', d.history_relation::text,
    -- The versions of the key k: see tidemark._column_lists.
    'versions', case when d.distributed_by is null then d.history_relation::text else (
        select format(
            'tidemark.%I(%s)', tidemark._function_name('versions', p_dimension_name),
            string_agg(format('k.%I', v.history_column), ', ' order by v.place)
        )
        from tidemark._version_arguments(p_dimension_name) as v
    ) end,
    'at', '($2' || z.zone || ')',
    'until', '($3' || z.zone || ')',
    'valid_from', '(h.valid_from' || z.zone || ')',
    'valid_to', '(h.valid_to' || z.zone || ')'
)
from tidemark.dimensions as d
join pg_attribute as a on a.attrelid = d.history_relation and a.attname = 'valid_from'
-- From one kind of time to the other it is the same.
cross join lateral (
    select case when a.atttypid = 'timestamptz'::regtype then '' else format(' at time zone %L', d.source_time_zone) end as zone
) as z
cross join key as k
cross join value as v
where d.dimension_name = p_dimension_name;
$$;

create or replace function tidemark._assert_key_fits(
    p_dimension_name text,
    p_key text[]
)
returns void
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Makes sure that a key has a value for each column of the business key, which are named as the history has them.
-- Errors: TM002 unknown dimension, TM020 it has more or fewer.
select tidemark._assert_key_size(
    p_dimension_name,
    array(select c.column_name from tidemark.browse_columns(p_dimension_name) as c where c.column_role = 'business key'),
    p_key
);
$$;

create or replace function tidemark._leads_an_index(
    p_history_relation regclass,
    p_column_name text
)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Whether a B-tree index of a history begins with that column: those for browsing are on valid_from, and on valid_to where it is not null.
select exists (
    select
    from pg_index as i
    join pg_class as c on c.oid = i.indexrelid
    join pg_am as m on m.oid = c.relam and m.amname = 'btree'
    join pg_attribute as a on a.attrelid = i.indrelid and a.attname = p_column_name and a.attnum = i.indkey[0]
    where i.indrelid = p_history_relation and i.indisvalid
        and (i.indpred is null or pg_get_expr(i.indpred, i.indrelid) = format('(%s IS NOT NULL)', p_column_name))
);
$$;
