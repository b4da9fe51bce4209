-- Which columns of a batch have another name today: the names they have in it, and those in tidemark.dimension_columns.
-- A batch says which history columns its names meant (history_columns): so a name that was given to another column since is told
-- from the one it is now, whatever the order of loading. Times, and documents from elsewhere, go by the names alone: a former name
-- counts where the batch has it and has not the present one; where it is a mapped or ignored column of its own by now, only if the
-- batch was extracted before the mapping followed the rename.
create or replace function tidemark._present_names(
    p_dimension_name text,
    p_names text [],
    p_history_columns json,
    p_extracted_at timestamptz,
    out former_names text [],
    out present_names text []
)
returns record
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
with meant as (
    select m.name, c.source_column as present_name
    from json_each_text(p_history_columns) as m (name, history_column)
    join tidemark.dimension_columns as c
        on c.dimension_name = p_dimension_name and c.history_column = m.history_column and c.column_role not like '% time'
    where m.name = any (p_names)
),
guessed as (
    select distinct on (f.former_name) f.former_name as name, f.source_column as present_name
    from tidemark.former_column_names as f
    where f.dimension_name = p_dimension_name and f.former_name = any (p_names) and f.source_column <> all (p_names)
        and f.former_name not in (select m.name from meant as m)
        and (
            p_extracted_at < f.renamed_at
            or not exists (
                select
                from tidemark.dimension_columns as c
                where c.dimension_name = p_dimension_name and c.source_column = f.former_name
                union all
                select
                from tidemark.ignored_columns as i
                where i.dimension_name = p_dimension_name and i.source_column = f.former_name
            )
        )
    order by f.former_name, f.renamed_at
),
named as (
    select m.name, m.present_name from meant as m
    union all
    select g.name, g.present_name from guessed as g
)
select array_agg(n.name order by n.name), array_agg(n.present_name order by n.name)
from named as n
where n.name <> n.present_name;
$$;
