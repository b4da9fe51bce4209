create or replace function tidemark.diff_page(
    p_dimension_name text,
    p_from timestamptz,
    p_to timestamptz,
    p_after text[],
    p_kind text,
    p_column text,
    p_limit integer
)
returns table (
    business_key text[],
    kind text,
    changed text[],
    before_values json,
    after_values json,
    versions bigint
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What differs between two moments, net, a row a key in its order: the first p_limit after the key p_after (null: from the first), of one
-- kind (created, updated or deleted; null: any), or that differ in one column. Values are lists of texts, in the order of
-- tidemark.browse_columns; one that the caller may not read is null and never compared. versions counts those that began in between. The
-- functions <history>_diff beside each history say the same in its own types.
-- Errors: TM002 unknown dimension, TM020 another number of key columns; a value that its column cannot hold keeps its own.
declare
    v_parts jsonb := tidemark._browse_parts(p_dimension_name);
    v_planner jsonb;
begin
    if p_after is not null then
        perform tidemark._assert_key_fits(p_dimension_name, p_after);
    end if;
    v_planner := tidemark._walk_keys(tidemark._is_dense(p_dimension_name, p_from, p_to));
    return query execute tidemark._laid_out(
        'select d.keys, d.kind, d.changed, to_json(d.before), to_json(d.after), d.versions from ('
        || tidemark._key_diff_text()
        || e') as d\nwhere ($6 is null or d.kind = $6) and ($7 is null or $7 = any (d.changed))\nlimit $4',
        v_parts || jsonb_build_object('after', case when p_after is null then '[]' else '[""]' end::jsonb, 'most', '[]'::jsonb)
    )
    using p_after, p_from, p_to, p_limit, tidemark._value_columns(p_dimension_name), p_kind, p_column;
    perform tidemark._set_planner(v_planner);
end;
$$;

create or replace function tidemark._key_diff_text()
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- What differs between two moments, a row a key in its order, with the parts of tidemark._browse_parts: $2 and $3 are the moments, $5 has
-- the names of the columns. Only keys of which a version began or ended in between are looked at, the first $4 where there are the most
-- to be.
select $text$
    with k as (
        select {keys}, array[{key_texts}] as keys, count(*) filter (where h.valid_from > {at} and h.valid_from <= {until}) as versions
        from {history} as h
        where ((h.valid_from > {at} and h.valid_from <= {until}) or (h.valid_to > {at} and h.valid_to <= {until}))
{after}     and ({keys}) > ({key_given})
        group by {keys}
        order by {keys}
{most}  limit $4
    )
    select k.keys, f.kind, k.versions, b.shown as before, a.shown as after,
        case when f.kind = 'updated' then x.changed end as changed
    from k
    left join lateral (
        select array[{values}]::text[] as shown, true as is_there
        from {versions} as h
        where {joined_key: and} and h.valid_from <= {at} and (h.valid_to > {at} or h.valid_to is null)
    ) as b on true
    left join lateral (
        select array[{values}]::text[] as shown, true as is_there
        from {versions} as h
        where {joined_key: and} and h.valid_from <= {until} and (h.valid_to > {until} or h.valid_to is null)
    ) as a on true
    cross join lateral (
        select array(
            select c.name
            from unnest(b.shown, a.shown, $5) with ordinality as c (shown_before, shown_after, name, place)
            where c.shown_before is distinct from c.shown_after
            order by c.place
        ) as changed
    ) as x
    cross join lateral (
        select case when b.is_there is null then 'created' when a.is_there is null then 'deleted' else 'updated' end as kind
    ) as f
    where (b.is_there or a.is_there) and (f.kind <> 'updated' or x.changed <> '{}')
    order by {found_keys}
$text$;
$$;

create or replace function tidemark._is_dense(
    p_dimension_name text,
    p_from timestamptz,
    p_to timestamptz
)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Whether so many versions began between two moments that it is better to walk the keys of a history than to sort those that changed.
-- Asked of an index on valid_from; false where there is none.
declare
    v_history regclass := (select d.history_relation from tidemark.dimensions as d where d.dimension_name = p_dimension_name);
    v_many constant integer := 20000;
    v_versions integer := 0;
begin
    if tidemark._leads_an_index(v_history, 'valid_from') then
        execute tidemark._laid_out(
            'select count(*) from ('
            'select h.valid_from from {history} as h where h.valid_from > {at} and h.valid_from <= {until} limit $1'
            ') as n',
            tidemark._browse_parts(p_dimension_name)
        )
        into v_versions using v_many, p_from, p_to;
    end if;
    return v_versions >= v_many;
end;
$$;

create or replace function tidemark._walk_keys(
    p_is_walked boolean
)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Makes the planner read a history in the order of its index on the key, where it is to be walked: left to itself it sorts all that
-- changed before it shows the first few. Returns the settings as they were, which tidemark._set_planner puts back; nothing where it need
-- not be walked.
select tidemark._set_planner(jsonb_object_agg(s.name, 'off'))
from unnest(array[
    'enable_sort', 'enable_hashagg', 'enable_seqscan', 'enable_bitmapscan', 'enable_hashjoin', 'enable_mergejoin'
]) as s (name)
where p_is_walked;
$$;

create or replace function tidemark._set_planner(
    p_settings jsonb
)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Sets settings of the planner for the rest of the transaction, and returns them as they were; null does nothing.
select jsonb_object_agg(s.name, s.before) filter (where set_config(s.name, s.value, true) is not null)
from (
    select g.key as name, g.value, current_setting(g.key) as before
    from jsonb_each_text(p_settings) as g
    offset 0
) as s;
$$;

create or replace function tidemark._value_columns(
    p_dimension_name text
)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The names of the columns of a history whose values are shown, in their order, those that the caller may not read among them.
select array(
    select c.column_name from tidemark.browse_columns(p_dimension_name) as c where c.column_role <> 'business key'
);
$$;
