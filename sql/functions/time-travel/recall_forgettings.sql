create or replace function tidemark.recall_forgettings(
    p_dimension_name text,
    p_noted json
)
returns setof tidemark.forgettings
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Every forgetting of a table, those included that only the notes beside its change log know (p_noted, of tidemark.forgetting_notes): a
-- warehouse that was restored from a backup learns so of what was forgotten after the backup was taken. Safe to repeat.
-- Notes that another warehouse made, with a secret of its own, are passed over: nobody could find their keys.
begin
    insert into tidemark.forgettings as f (
        dimension_name, reference, forgotten_by, begun_at, key_hash, token, keeps_shells, captured_until
    )
    select p_dimension_name, n.reference, n.forgotten_by, n.begun_at, n.key_hash, n.token, n.keeps_shells, n.captured_until
    from json_to_recordset(p_noted) as n (
        reference text, forgotten_by text, begun_at timestamptz, key_hash text, token text [], keeps_shells boolean,
        captured_until timestamptz, secret text
    )
    where n.secret = tidemark._secret_mark()
    on conflict (dimension_name, key_hash, begun_at) do update
    set captured_until = coalesce(f.captured_until, excluded.captured_until);
    return query
    select f.*
    from tidemark.forgettings as f
    where f.dimension_name = p_dimension_name
    order by f.forgetting_id;
end;
$$;

revoke execute on function tidemark.recall_forgettings (text, json) from public;
