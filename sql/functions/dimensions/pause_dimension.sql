create or replace function tidemark.pause_dimension(
    p_dimension_name text,
    p_is_paused boolean
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Pauses a dimension, so that it is neither extracted nor loaded, or lets it go on (p_is_paused false). Safe to repeat.
-- Nothing is lost meanwhile: extraction goes on from its watermark. apply_batch is not refused to who calls it.
-- Errors: TM002 unknown dimension.
begin
    perform tidemark._assert_dimension_known(p_dimension_name);

    update tidemark.dimensions as d
    set paused_at = case when p_is_paused then transaction_timestamp() end
    where d.dimension_name = p_dimension_name and (d.paused_at is not null) <> p_is_paused;
end;
$$;
