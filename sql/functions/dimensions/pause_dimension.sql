create or replace function tidemark.pause_dimension(
    p_dimension_name text,
    p_is_paused boolean,
    p_reason text default null,
    p_who text default null
)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Pauses a dimension, so that it is neither extracted nor loaded, or lets it go on (p_is_paused false). tidemark.actions keeps who did it
-- (p_who, else the session's role), when and why. Returns whether it was otherwise before. Safe to repeat.
-- Nothing is lost meanwhile: extraction goes on from its watermark. apply_batch is not refused to who calls it.
-- Errors: TM002 unknown dimension.
begin
    perform tidemark._assert_dimension_known(p_dimension_name);

    update tidemark.dimensions as d
    set paused_at = case when p_is_paused then transaction_timestamp() end
    where d.dimension_name = p_dimension_name and (d.paused_at is not null) <> p_is_paused;
    if not found then
        return false;
    end if;
    perform tidemark._note_action(p_dimension_name, case when p_is_paused then 'pause' else 'resume' end, p_who, p_reason);
    return true;
end;
$$;

revoke execute on function tidemark.pause_dimension (text, boolean, text, text) from public;
