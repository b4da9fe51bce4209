-- The fragments of tidemark._statement_fragments, and those by which tidemark._apply_statement overwrites untracked columns:
-- a version shows the values of the last change that was absorbed into it, and the values it had first are kept aside.
-- For a dimension that has none they are empty, and cost nothing.
create or replace function tidemark._untracked_fragments(
    p_dimension_name text
)
returns json
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_fragments jsonb := tidemark._statement_fragments(p_dimension_name)::jsonb;
    v_parts jsonb;
begin
    select jsonb_build_object(
        'has_untracked', count(*) > 0,
        'read_untracked', ', h.surrogate_key'
            || string_agg(format(', h.%I as stored_%s', e.history_column, e.ordinal), '' order by e.ordinal),
        'stored_untracked', ', v.surrogate_key as stored_key' || string_agg(format(', v.stored_%s', e.ordinal), '' order by e.ordinal),
        'shown_untracked', string_agg(
            format(
                ', last_value(c.%s) over (partition by %s, c.version_number order by c.change_line'
                ' rows between unbounded preceding and unbounded following) as shown_%s',
                e.value_name, v_fragments ->> 'key_values', e.ordinal
            ), '' order by e.ordinal
        ),
        'shown_alone', ', 0 as version_number' || string_agg(format(', c.%s as shown_%s', e.value_name, e.ordinal), '' order by e.ordinal),
        'set_untracked', string_agg(
            format(', %1$I = case when c.is_overwritten then c.shown_%2$s else h.%1$I end', e.history_column, e.ordinal),
            '' order by e.ordinal
        ),
        'shown', string_agg(format('c.shown_%s', e.ordinal), ', ' order by e.ordinal),
        'shown_as_text', string_agg(format('c.shown_%s::text', e.ordinal), ', ' order by e.ordinal),
        'value_as_text', string_agg(format('c.%s::text', e.value_name), ', ' order by e.ordinal),
        'stored_as_text', string_agg(format('c.stored_%s::text', e.ordinal), ', ' order by e.ordinal),
        'stored_as_values', string_agg(format('c.stored_%s as %s', e.ordinal, e.value_name), ', ' order by e.ordinal),
        'untracked_values', string_agg(format('c.%s', e.value_name), ', ' order by e.ordinal),
        'print_untracked', string_agg(format('%s as %I', e.printed, e.source_column), ', ' order by e.ordinal)
    )
    into v_parts
    from tidemark._column_expressions(p_dimension_name) as e
    where e.column_role = 'untracked';

    if not (v_parts ->> 'has_untracked')::boolean then
        return (v_fragments || jsonb_build_object(
            'read_untracked', '', 'stored_untracked', '', 'version_number', '', 'shown_untracked', '', 'shown_alone', '',
            'is_overwritten', 'false', 'set_untracked', '',
            'ended', '(select c.* from folded as c where c.follows_stored_version and c.in_force)',
            'shown_values', v_fragments ->> 'values', 'keep_first_values', ''
        ))::json;
    end if;

    v_fragments := v_fragments || v_parts || jsonb_build_object(
        'is_overwritten', format('row(%s) is distinct from row(%s)', v_parts ->> 'shown_as_text', v_parts ->> 'stored_as_text'),
        'shown_values', (
            select string_agg(
                case when e.column_role = 'untracked' then format('c.shown_%s', e.ordinal) else format('c.%s', e.value_name) end,
                ', ' order by e.ordinal
            )
            from tidemark._column_expressions(p_dimension_name) as e
        )
    );
    return (v_fragments || jsonb_build_object(
        'version_number', tidemark._fill_template(
            ', count(*) filter (where not c.is_absorbed) over (partition by {key_values} order by c.change_line) as version_number',
            v_fragments::json
        ),
        'ended', tidemark._fill_template(
            $ended$(
        select *
        from (select {key_values}, c.takes_effect from folded as c where c.follows_stored_version and c.in_force) as e
        full join (select {key_values}, true as is_overwritten, {shown} from overwritten as c) as o using ({key_names})
    )$ended$,
            v_fragments::json
        ),
        'keep_first_values', tidemark._fill_template(
            $kept$
kept as (
    insert into tidemark.first_values (dimension_name, surrogate_key, values_before)
    select {dimension}, l.surrogate_key, (select row_to_json(r.*) from (select {print_untracked}) as r)
    from (
        select c.stored_key as surrogate_key, {stored_as_values} from overwritten as c
        union all
        select n.surrogate_key, {untracked_values}
        from opened as n
        join folded as c using (change_line)
        where row({shown_as_text}) is distinct from row({value_as_text})
    ) as l
    on conflict do nothing
),$kept$,
            v_fragments::json
        )
    ))::json;
end;
$$;
