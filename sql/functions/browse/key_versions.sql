create or replace function tidemark.key_versions(
    p_dimension_name text,
    p_key text[],
    p_known timestamptz,
    p_before timestamptz,
    p_limit integer
)
returns table (
    surrogate_key bigint,
    valid_from timestamptz,
    valid_to timestamptz,
    cdc_operation text,
    shown_values json,
    changed text[],
    batch_id text,
    change_line integer,
    captured_at timestamptz,
    applied_at timestamptz
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The versions of one key, oldest first: the newest p_limit of those that began before p_before (null: of all). Values are a list of
-- texts, in the order of tidemark.browse_columns, of which changed names those that differ from the version before; one that the caller
-- may not read is null and never named. With p_known the versions are those that the warehouse knew at that moment (null: that it knows);
-- then the caller must be able to read the whole history.
-- Errors: TM002 unknown dimension, TM020 another number of key columns, TM028 it was pruned; a value that its column cannot hold keeps its
-- own.
declare
    v_parts jsonb := tidemark._browse_parts(p_dimension_name);
begin
    perform tidemark._assert_key_fits(p_dimension_name, p_key);
    perform tidemark._assert_known(p_dimension_name, p_known);
    if p_known is not null then
        v_parts := v_parts || jsonb_build_object('history', format(
            'tidemark.%I($3, %s)', tidemark._function_name('known', p_dimension_name),
            (select string_agg(k.given, ', ') from jsonb_array_elements_text(v_parts -> 'key_given') as k (given))
        ));
    end if;
    return query execute tidemark._laid_out(
        $query$
        select v.surrogate, v.began, v.ended, v.operation, to_json(v.shown),
            case when v.place > 1 then array(
                select c.column_name
                from unnest(v.shown, v.shown_before, $5) with ordinality as c (shown, shown_before, column_name, place)
                where c.shown is distinct from c.shown_before
                order by c.place
            ) end,
            v.batch_id, v.change_line, v.captured_at, b.applied_at
        from (
            select n.*, lag(n.shown) over (order by n.began) as shown_before,
                row_number() over (order by n.began) as place, count(*) over () as found
            from (
                select h.surrogate_key::bigint as surrogate, {valid_from} as began, {valid_to} as ended, h.cdc_operation::text as operation,
                    array[{values}]::text[] as shown, h.batch_id::text as batch_id, h.change_line::integer as change_line,
                    h.captured_at::timestamptz as captured_at
                from {history} as h
                where {same_key: and} and ($2 is null or h.valid_from < {at})
                order by h.valid_from desc
                limit $4 + 1
            ) as n
        ) as v
        left join tidemark.batches as b on b.dimension_name = $6 and b.batch_id = v.batch_id
        -- The one more is there to be compared with.
        where v.place > 1 or v.found <= $4
        order by v.began
        $query$,
        v_parts
    )
    using p_key, p_before, p_known, p_limit, tidemark._value_columns(p_dimension_name), p_dimension_name;
end;
$$;
