create or replace function tidemark.time_travel_query(
    p_dimension_name text,
    p_function text,
    p_moments timestamptz [],
    p_key text [],
    p_filters json,
    p_layout text
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
-- The query that asks a function beside a history (p_function: as_of, as_known, diff or changes) for these moments, by a client that
-- reads many rows, with a cursor or COPY. Names come from the catalog and values are quoted, so that nothing given can become SQL.
-- p_key is a value for each column of the business key, or empty: every key. p_filters are values by column ({"city": "Oslo"}).
-- p_layout: table (texts for people: mapped columns, or what changed in words), csv (values), json (one text a row).
-- Errors: TM002 unknown dimension; TM020 another number of key columns; undefined_function no such function is there, or not Tidemark's.
declare
    v_history regclass;
    v_function record;
    v_is_state boolean := p_function in ('as_of', 'as_known');
    v_keys text [];
    v_condition text;
    v_differences text;
    v_columns text;
    v_query text;
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    select d.history_relation into v_history from tidemark.dimensions as d where d.dimension_name = p_dimension_name;
    select f.name, p.proargnames[p.pronargs + 1:] as returned
    into v_function
    from pg_class as h
    join pg_namespace as n on n.oid = h.relnamespace
    cross join lateral (select format('%I.%I', n.nspname, h.relname || '_' || p_function)) as f (name)
    join pg_proc as p on p.oid = to_regprocedure(
        format('%s(%s)', f.name, array_to_string(array_fill('timestamptz'::text, array[cardinality(p_moments)]), ', '))
    )
    where h.oid = v_history;
    if v_function.name is null then
        raise exception using
            errcode = 'undefined_function',
            message = format('history %s has no function %s', v_history, p_function),
            hint = 'migrate writes it, unless the name of the history is too long for that';
    end if;

    select array_agg(
        quote_ident(case when v_is_state then k.history_column else v_function.returned[k.place] end) order by k.place
    )
    into v_keys
    from (
        select c.history_column, row_number() over (order by c.ordinal) as place
        from tidemark.dimension_columns as c
        where c.dimension_name = p_dimension_name and c.column_role = 'business key'
    ) as k;
    if cardinality(p_key) > 0 then
        perform tidemark._assert_key_size(p_dimension_name, v_keys, p_key);
    end if;

    select string_agg(f.condition, ' and ')
    into v_condition
    from (
        select format('h.%s = %L', k.name, k.value) as condition
        from unnest(v_keys, p_key) as k (name, value)
        where cardinality(p_key) > 0
        union all
        -- json has no equality.
        select format('h.%I%s = %L', f.key, case a.atttypid when 'json'::regtype then '::text' else '' end, f.value)
        from json_each_text(p_filters) as f
        join pg_attribute as a on a.attrelid = v_history and a.attname = f.key and a.attnum > 0 and not a.attisdropped
    ) as f;

    select
        string_agg(format('h.%I::text', c.history_column), ', ' order by c.column_role <> 'business key', c.ordinal),
        string_agg(
            format(
                'case h.what when ''updated'' then case when %1$L = any (h.changed) then %1$L || '': '' || %2$s || '' → '' || %3$s end '
                'when ''created'' then %1$L || '': '' || %3$s%4$s end',
                c.history_column, c.before, c.after,
                case when p_function = 'diff' then format(' else %L || '': '' || %s', c.history_column, c.before) else '' end
            ),
            ', ' order by c.ordinal
        ) filter (where c.column_role <> 'business key')
    into v_columns, v_differences
    from (
        select c.*, format(s.shown, 'before', c.history_column) as before, format(s.shown, 'after', c.history_column) as after
        from tidemark.dimension_columns as c
        cross join (values ('coalesce(left((h.%s).%I::text, 60), ''null'')')) as s (shown)
        where c.dimension_name = p_dimension_name and c.column_role in ('business key', 'tracked', 'untracked')
    ) as c;
    v_differences := format('array_to_string(array[%s]::text[], '', '') as changes', v_differences);

    v_query := format(
        'select %s from %s(%s) as h%s order by %s',
        case
            when p_layout = 'table' and v_is_state then v_columns || ', h.valid_from::text, h.valid_to::text'
            when p_layout = 'table' and p_function = 'changes'
                then 'h.happened_at::text, h.what, ' || v_differences
                    || ', h.batch_id, h.change_line::text as line, h.captured_at::text, h.applied_at::text'
            when p_layout = 'table' then format(
                '%s, h.what, %s', (select string_agg(format('h.%s::text', k.name), ', ') from unnest(v_keys) as k (name)), v_differences
            )
            when v_is_state or p_layout = 'json' then 'h.*'
            else format(
                '%s, %s, row_to_json(h.before) as before, row_to_json(h.after) as after',
                (select string_agg('h.' || k.name, ', ') from unnest(v_keys) as k (name)),
                case when p_function = 'changes'
                    then 'h.what, h.happened_at, h.changed, h.batch_id, h.change_line, h.captured_at, h.applied_at'
                    else 'h.what, h.changed'
                end
            )
        end,
        v_function.name,
        (
            select string_agg(format('%L::timestamptz', m.moment), ', ' order by m.place)
            from unnest(p_moments) with ordinality as m (moment, place)
        ),
        ' where ' || v_condition,
        case when p_function = 'changes' then 'h.happened_at, ' else '' end
            || (select string_agg('h.' || k.name, ', ') from unnest(v_keys) as k (name))
    );
    return case when p_layout = 'json' then format('select row_to_json(q)::text as line from (%s) as q', v_query) else v_query end;
end;
$$;
