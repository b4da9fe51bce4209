create or replace function tidemark.as_known_page(
    p_dimension_name text,
    p_moment timestamptz,
    p_known timestamptz,
    p_after text[],
    p_filters json,
    p_limit integer
)
returns table (
    business_key text[],
    shown_values json,
    valid_from timestamptz,
    valid_to timestamptz,
    cdc_operation text,
    surrogate_key bigint
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- A page of a table as it was at a moment (null: at p_known), as the warehouse knew it at p_known: what tidemark.as_of_page would have
-- returned then. Only the changes of the keys that it comes past are folded, 1,000 keys at most: where those had fewer than p_limit rows,
-- the last row has but the key after which to go on.
-- Runs with the rights of its caller, who must be able to read the whole history, and tables of schema tidemark too.
-- Errors: TM002 unknown dimension, TM020 another number of key columns, TM028 it was pruned, 42703 as tidemark.as_of_page; a value that its
-- column cannot hold keeps its own.
#variable_conflict use_column
declare
    v_parts jsonb := tidemark._column_lists(p_dimension_name);
    v_filters jsonb;
    v_given text[];
    v_row record;
    v_most constant integer := 1000;
    v_keys integer := 0;
    v_rows integer := 0;
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    perform tidemark._assert_known(p_dimension_name, p_known);
    if p_after is not null then
        perform tidemark._assert_key_fits(p_dimension_name, p_after);
    end if;
    if not exists (select from tidemark.batches as b where b.dimension_name = p_dimension_name and b.applied_at <= p_known) then
        return;
    end if;
    select f.conditions, f.given into v_filters, v_given from tidemark._browse_filters(p_dimension_name, p_filters) as f;
    v_parts := v_parts || tidemark._browse_parts(p_dimension_name) || jsonb_build_object(
        'key_names', v_parts -> 'keys',
        'key_texts', (select jsonb_agg(k.name || '::text') from jsonb_array_elements_text(v_parts -> 'key_values') as k (name)),
        'after', case when p_after is null then '[]' else '[""]' end::jsonb,
        'filters', v_filters
    );
    -- Rows are fetched few by few, so that a key is folded only where the page comes that far.
    for v_row in execute tidemark._laid_out(
        $query$
        select array[{key_texts}] as business_key, h.*
        from (
            (
                select distinct {keys}
                from {history} as h
                where true
{after}             and ({keys}) > ({key_given})
                order by {keys}
                limit $5
            )
            union
            select {keys}
            from tidemark.former_keys as f
            cross join lateral json_to_record(f.business_key::json) as h ({keys_as})
            where f.dimension_name = {dimension}
{after}         and ({keys}) > ({key_given})
            order by {key_names}
            limit $5
        ) as c
        left join lateral (
            select array[{values}]::text[] as shown, {valid_from} as began, {valid_to} as ended, h.cdc_operation::text as operation,
                h.surrogate_key::bigint as surrogate
            from tidemark.{known_function}($3, {key_values}) as h
            where h.valid_from <= {at} and (h.valid_to > {at} or h.valid_to is null)
                and {filters: and}
        ) as h on true
        order by {key_values}
        $query$,
        v_parts
    )
    using p_after, coalesce(p_moment, p_known), p_known, v_given, v_most
    loop
        v_keys := v_keys + 1;
        if v_row.shown is not null then
            v_rows := v_rows + 1;
            return query
            select v_row.business_key, to_json(v_row.shown), v_row.began, v_row.ended, v_row.operation, v_row.surrogate;
        end if;
        exit when v_rows = p_limit;
        if v_keys = v_most then
            return query select v_row.business_key, null::json, null::timestamptz, null::timestamptz, null::text, null::bigint;
        end if;
    end loop;
end;
$$;
