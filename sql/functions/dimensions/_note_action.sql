create or replace function tidemark._note_action(
    p_dimension_name text,
    p_action text,
    p_who text,
    p_reason text,
    p_batch_id text default null,
    p_changes bigint default null
)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Notes in tidemark.actions what is done by hand in this transaction.
insert into tidemark.actions (dimension_name, action, acted_at, acted_by, session_role, reason, batch_id, changes)
values (
    p_dimension_name, p_action, clock_timestamp(), tidemark._who(p_who), session_user, nullif(btrim(p_reason), ''), p_batch_id, p_changes
);
$$;

create or replace function tidemark._who(
    p_who text
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Who does something by hand: whom the caller names, else the role of the session.
select coalesce(nullif(btrim(p_who), ''), session_user);
$$;
