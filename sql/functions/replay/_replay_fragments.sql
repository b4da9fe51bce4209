-- The parts of tidemark.adopt_replay that differ from dimension to dimension, by the name they have in its templates:
-- h is a version of the live history, r one that was replayed, g one that was deleted because it was wrong.
create or replace function tidemark._replay_fragments(
    p_dimension_name text
)
returns json
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
with identity as (
    select c.history_column, c.ordinal
    from tidemark.dimension_columns as c
    where c.dimension_name = p_dimension_name and c.column_role = 'business key'
    union all
    select 'valid_from', 2147483647
),
content as (
    select c.name, c.place
    from unnest(tidemark._content_columns(p_dimension_name)) with ordinality as c (name, place)
)
select json_build_object(
    'history', (select d.history_relation::text from tidemark.dimensions as d where d.dimension_name = p_dimension_name),
    'replayed', format('pg_temp.%I', tidemark._replay_name(p_dimension_name)),
    'gone', format('pg_temp.%I', tidemark._replay_name(p_dimension_name) || '_gone'),
    'content', (select string_agg(c.name, ', ' order by c.place) from content as c),
    'h_content', (select string_agg('h.' || c.name, ', ' order by c.place) from content as c),
    'r_content', (select string_agg('r.' || c.name, ', ' order by c.place) from content as c),
    'h_key', (
        select string_agg(format('h.%I', i.history_column), ', ' order by i.ordinal)
        from identity as i
        where i.history_column <> 'valid_from'
    ),
    'g_key', (
        select string_agg(format('g.%I', i.history_column), ', ' order by i.ordinal)
        from identity as i
        where i.history_column <> 'valid_from'
    ),
    'same_version', (select string_agg(format('h.%1$I = r.%1$I', i.history_column), ' and ' order by i.ordinal) from identity as i),
    'same_as_gone', (select string_agg(format('g.%1$I = r.%1$I', i.history_column), ' and ' order by i.ordinal) from identity as i)
);
$$;
