create or replace function tidemark.schema_history(
    p_dimension_name text
)
returns table (
    since timestamptz,
    batch_id text,
    added text[],
    gone text[],
    note text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- How the source of a dimension changed its shape, newest first: the batches of each chain from which on a column came, or came no more,
-- and the history columns that were given another type. Reads the ledger of the dimension.
select s.since, s.batch_id, s.added, s.gone, s.note
from (
    select b.extracted_at, b.batch_id,
        array(select unnest(b.columns) except select unnest(b.columns_before) order by 1),
        array(select unnest(b.columns_before) except select unnest(b.columns) order by 1),
        case when b.columns_before is null then 'the first batch' end
    from (
        select n.batch_id, n.extracted_at, n.columns,
            lag(n.columns) over (partition by n.shard order by n.greatest_captured_at, n.batch_id collate "C") as columns_before
        from tidemark.batches as n
        where n.dimension_name = p_dimension_name and n.columns is not null
    ) as b
    where b.columns_before is null or not (b.columns <@ b.columns_before and b.columns_before <@ b.columns)
    union all
    select r.retyped_at, r.batch_id, '{}', '{}', format('%s: %s became %s', r.history_column, r.former_type, r.type)
    from tidemark.retyped_columns as r
    where r.dimension_name = p_dimension_name
) as s (since, batch_id, added, gone, note)
order by s.since desc, s.batch_id desc;
$$;
