create or replace function tidemark.as_of_page(
    p_dimension_name text,
    p_moment timestamptz,
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
-- A page of a table as it was at a moment (null: as it is), in the order of its key: the first p_limit rows after the key p_after (null:
-- from the first). Values are a list of texts, in the order of tidemark.browse_columns; one that the caller may not read is null.
-- p_filters is an object of texts by column, each to be equal, or null. Where few versions are from before the moment they are sorted,
-- else the keys are walked, as they are on the nodes of a history that is distributed: the planner, left to itself, would walk them all.
-- Errors: TM002 unknown dimension, TM020 another number of key columns, 42703 a filter on a column that there is not, or that the caller
-- may not read; a value that its column cannot hold keeps its own.
declare
    v_parts jsonb := tidemark._browse_parts(p_dimension_name);
    v_filters jsonb;
    v_values text[];
    v_few constant integer := 20000;
    v_versions integer := v_few + 1;
begin
    if p_after is not null then
        perform tidemark._assert_key_fits(p_dimension_name, p_after);
    end if;
    select f.conditions, f.given into v_filters, v_values from tidemark._browse_filters(p_dimension_name, p_filters) as f;

    if p_moment is not null and (
        select d.distributed_by is null and tidemark._leads_an_index(d.history_relation, 'valid_from')
        from tidemark.dimensions as d
        where d.dimension_name = p_dimension_name
    ) then
        execute tidemark._laid_out(
            'select count(*) from (select h.valid_from from {history} as h where h.valid_from <= {at} limit $5) as n', v_parts
        )
        into v_versions using p_after, p_moment, null::timestamptz, v_values, v_few + 1;
    end if;
    v_parts := v_parts || jsonb_build_object('filters', v_filters) || (
        select jsonb_object_agg(c.name, case when c.holds then '[""]'::jsonb else '[]' end)
        from (
            values
            ('after', p_after is not null),
            ('now', p_moment is null),
            ('then', p_moment is not null),
            ('walked', v_versions > v_few),
            ('sorted', v_versions <= v_few)
        ) as c (name, holds)
    );

    return query execute tidemark._laid_out(
        $query$
        select h.keys, to_json(h.shown), h.began, h.ended, h.operation, h.surrogate
        from (
            select array[{key_texts}] as keys, array[{values}]::text[] as shown,
{sorted}        row({keys}) as place,
                {valid_from} as began, {valid_to} as ended, h.cdc_operation::text as operation, h.surrogate_key::bigint as surrogate
            from {history} as h
            where true
{now}           and h.is_current
{then}          and h.valid_from <= {at} and (h.valid_to > {at} or h.valid_to is null)
{after}         and ({keys}) > ({key_given})
                and {filters: and}
{walked}    order by {keys}
{walked}    limit $5
{sorted}    offset 0
        ) as h
{sorted} order by h.place
{sorted} limit $5
        $query$,
        v_parts
    )
    using p_after, p_moment, null::timestamptz, v_values, p_limit;
end;
$$;

create or replace function tidemark._browse_filters(
    p_dimension_name text,
    p_filters json
)
returns table (
    conditions jsonb,
    given text[]
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- An object of texts by column, each to be equal, or null, as conditions over a row h of a history, in which $4 are the texts in their
-- order.
-- Errors: 42703 a column that there is not, or that the caller may not read.
declare
    v_unknown text;
begin
    select coalesce(jsonb_agg(
            case
                when f.value is null then format('h.%I is null', f.key)
                when o.oid is null then format('h.%I::text = ($4)[%s]', f.key, f.place)
                else format('h.%I = ($4)[%s]::%s', f.key, f.place, format_type(a.atttypid, -1))
            end order by f.place
        ), '[]'),
        array_agg(f.value order by f.place),
        min(f.key) filter (where c.column_name is null)
    into conditions, given, v_unknown
    from json_each_text(p_filters) with ordinality as f (key, value, place)
    left join tidemark.browse_columns(p_dimension_name) as c on c.column_name = f.key and c.is_readable
    left join tidemark.dimensions as d on d.dimension_name = p_dimension_name
    left join pg_attribute as a on a.attrelid = d.history_relation and a.attname = c.column_name
    left join pg_opclass as o on o.opcintype = a.atttypid and o.opcdefault
        and o.opcmethod = (select m.oid from pg_am as m where m.amname = 'btree');
    if v_unknown is not null then
        raise exception using
            errcode = '42703',
            message = 'there is no such column to filter by',
            detail = format('dimension=%s column=%s', p_dimension_name, v_unknown),
            hint = 'tidemark.browse_columns lists those that can be read';
    end if;
    return next;
end;
$$;
