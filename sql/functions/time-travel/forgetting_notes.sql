create or replace function tidemark.forgetting_notes(
    p_dimension_name text,
    p_noted json,
    out notes text,
    out unknown text []
)
returns record
language sql
stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
-- What is to be kept beside the change log of a table of its forgettings, a line each: who, when and for which ticket, an HMAC of the key,
-- and the token that stands for it; no key and no value. Those in p_noted that another warehouse made stay as they are; unknown has their
-- references.
with foreign_note as (
    select n.note, n.note ->> 'reference' as reference, n.place
    from json_array_elements(p_noted) with ordinality as n (note, place)
    where n.note ->> 'secret' is distinct from tidemark._secret_mark()
),
own_note as (
    select f.forgetting_id, row_to_json(r.*) as note
    from tidemark.forgettings as f
    cross join lateral (
        select f.reference, f.forgotten_by, f.begun_at, f.captured_until, f.key_hash, f.token, f.keeps_shells,
            tidemark._secret_mark() as secret
    ) as r
    where f.dimension_name = p_dimension_name
)
select
    format(e'[\n%s\n]\n', (
        select string_agg(translate(a.note::text, e'\n', ' '), e',\n' order by a.is_own, a.place)
        from (
            select o.note, true as is_own, o.forgetting_id as place from own_note as o
            union all
            select g.note, false, g.place from foreign_note as g
        ) as a
    )),
    (select coalesce(array_agg(g.reference order by g.place), '{}') from foreign_note as g);
$$;

revoke execute on function tidemark.forgetting_notes (text, json) from public;

create or replace function tidemark._secret_mark()
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- By what notes tell with which secret they were made: it says nothing of the secret.
select left(tidemark._keyed_hash(p.inner_pad, p.outer_pad, 'tidemark.forgetting_secret'), 16) from tidemark._hash_pads() as p;
$$;
