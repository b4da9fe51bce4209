create or replace function tidemark.lineage(
    p_dimension_name text,
    p_key anycompatible
)
returns table (
    surrogate_key bigint,
    valid_from text,
    valid_to text,
    cdc_operation text,
    differences text,
    batch_id text,
    change_line integer,
    shard text,
    sequence bigint,
    extracted_at timestamptz,
    applied_at timestamptz
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Every version of one key, oldest first: the batch and line its change came from, and which columns differ from the version before,
-- of those that the caller may read.
-- p_key is the value of the business key: 'INV-1', 42, a uuid; of a key of several columns array['A', '7'] or row('A', 7), in the order of
-- the mapping.
-- Errors: TM020 no dimension of that name, or another number of key columns; a value that its column cannot hold keeps its own.
#variable_conflict use_column
declare
    v_key text[];
    v_history text;
    v_values text;
    v_columns text[];
    v_key_columns text[];
    v_condition text;
begin
    v_key := case
        when pg_typeof(p_key) in ('json'::regtype, 'jsonb'::regtype) then array[p_key::text]
        when json_typeof(to_json(p_key)) = 'array' then array(select e.value from json_array_elements_text(to_json(p_key)) as e)
        when json_typeof(to_json(p_key)) = 'object' then array(select e.value from json_each_text(to_json(p_key)) as e)
        else array[p_key::text]
    end;

    select d.history_relation::text,
        array_agg(c.history_column order by c.ordinal),
        string_agg(format('h.%I = $1[%s]::%s', c.history_column, c.place, format_type(a.atttypid, a.atttypmod)), ' and ')
    into v_history, v_key_columns, v_condition
    from tidemark.dimensions as d
    join (
        select k.*, row_number() over (partition by k.dimension_name order by k.ordinal) as place
        from tidemark.dimension_columns as k
        where k.column_role = 'business key'
    ) as c on c.dimension_name = d.dimension_name
    join pg_attribute as a on a.attrelid = d.history_relation and a.attname = c.history_column
    where d.dimension_name = p_dimension_name
    group by d.history_relation;
    -- As text: json itself cannot be taken apart where a string of it has \u0000.
    select string_agg(format('h.%I::text', c.history_column), ', ' order by c.ordinal), array_agg(c.history_column order by c.ordinal)
    into v_values, v_columns
    from tidemark.dimension_columns as c
    join tidemark.dimensions as d on d.dimension_name = c.dimension_name
    where c.dimension_name = p_dimension_name and c.column_role in ('tracked', 'untracked')
        and has_column_privilege(d.history_relation, c.history_column, 'select');

    perform tidemark._assert_key_size(p_dimension_name, v_key_columns, v_key);

    return query execute format(
        $query$
        with version as (
            select h.surrogate_key::bigint as surrogate_key, h.valid_from::text as valid_from, h.valid_to::text as valid_to,
                h.cdc_operation::text as cdc_operation, h.batch_id::text as batch_id, h.change_line::integer as change_line,
                h.captured_at::timestamptz as captured_at, array[%3$s]::text[] as columns,
                row_number() over (order by h.valid_from) as place
            from %1$s as h
            where %2$s
        )
        select v.surrogate_key, v.valid_from, v.valid_to, v.cdc_operation, d.differences,
            v.batch_id, v.change_line, b.shard, b.sequence, v.captured_at, b.applied_at
        from version as v
        left join version as p on p.place = v.place - 1
        left join tidemark.batches as b on b.dimension_name = $2 and b.batch_id = v.batch_id
        left join lateral (
            select string_agg(
                format('%%s: %%s → %%s', c.name, coalesce(p.columns[c.place], 'null'), coalesce(v.columns[c.place], 'null')),
                ', ' order by c.place
            ) as differences
            from unnest($3) with ordinality as c (name, place)
            where p.place is not null
                and p.columns[c.place] is distinct from v.columns[c.place]
        ) as d on true
        order by v.place
        $query$,
        v_history, v_condition, v_values
    )
    using v_key, p_dimension_name, v_columns;
end;
$$;
