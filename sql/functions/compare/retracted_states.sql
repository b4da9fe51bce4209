create or replace function tidemark.retracted_states(
    p_dimension_name text,
    p_keys json
)
returns table (
    key text,
    content text,
    batch_id text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What batches that are retracted said last of some keys (p_keys: json array of keys, each as comparison_digests gives it): content as
-- comparison_states has it, null for a delete. Where the source says the same, it is the retraction that makes history differ from it.
#variable_conflict use_column
begin
    if not exists (select from tidemark.retracted_changes as r where r.dimension_name = p_dimension_name) then
        return;
    end if;
    return query execute tidemark._laid_out(
        $query$
        select distinct on (v.key) v.key, case when r.cdc_operation <> 'DELETE' then v.content end, r.batch_id
        from tidemark.retracted_changes as r
        join tidemark.batches as b on b.dimension_name = {dimension} and b.shard = r.shard and b.batch_id = r.batch_id
        cross join lateral (
            select {compared_row}
            from (
                select {stored_values}
                from rows from (json_to_record(r.change) as ({read_as})) as c ({columns})
            ) as h
        ) as v
        where r.dimension_name = {dimension} and r.rejected is null
            and v.key in (select w.key from json_array_elements_text($1) as w (key))
        order by v.key,
{by_time}            r.cdc_timestamp desc,
            r.captured_at desc, b.sequence desc nulls first, r.batch_id collate "C" desc, r.change_line desc
        $query$,
        tidemark._column_lists(p_dimension_name)
            || jsonb_build_object('compared_row', tidemark._compared_row(p_dimension_name))
    )
    using p_keys;
end;
$$;
