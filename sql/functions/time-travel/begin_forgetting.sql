create or replace function tidemark.begin_forgetting(
    p_dimension_name text,
    p_key text [],
    p_reference text,
    p_who text default null
)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Notes that a key is about to be forgotten, before anything is: p_reference is the name of the ticket that asks for it. p_key has a
-- value for each column of the key, as a change has it. Returns the number of the note, in tidemark.forgettings.
-- Safe to repeat: one that was cut off goes on under its number. For the owner of the warehouse: nobody else reads the secret.
-- Errors: TM002 unknown table, TM012 no reference, TM020 another number of key columns, and what PostgreSQL says of a value that is none.
declare
    v_hash text;
    v_id bigint;
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    if p_reference is null or p_reference !~ '^[A-Za-z0-9][A-Za-z0-9._:/#-]{0,99}$' then
        raise exception using
            errcode = 'TM012',
            message = 'a key cannot be forgotten without the reference of a ticket',
            detail = format('table=%s', p_dimension_name),
            hint = 'give its name alone: letters, digits and . _ : / # -, at most 100; it is kept, and says nothing of whom it is about';
    end if;
    v_hash := tidemark._key_hash(p_dimension_name, tidemark._asked_key(p_dimension_name, p_key));
    insert into tidemark.forgettings as f (dimension_name, reference, forgotten_by, begun_at, key_hash)
    values (p_dimension_name, p_reference, coalesce(nullif(btrim(p_who), ''), session_user), clock_timestamp(), v_hash)
    on conflict (dimension_name, key_hash) where finished_at is null do update
    set reference = excluded.reference
    returning f.forgetting_id into v_id;
    return v_id;
end;
$$;

revoke execute on function tidemark.begin_forgetting (text, text [], text, text) from public;

create or replace function tidemark._key_as_change(
    p_dimension_name text,
    p_key text []
)
returns json
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- A change that has nothing but this key. Errors: TM020 another number of key columns.
declare
    v_columns text [] := array(
        select c.source_column
        from tidemark.dimension_columns as c
        where c.dimension_name = p_dimension_name and c.column_role = 'business key'
        order by c.ordinal
    );
begin
    perform tidemark._assert_key_size(p_dimension_name, v_columns, p_key);
    return json_object(v_columns, p_key);
end;
$$;

create or replace function tidemark._asked_key(
    p_dimension_name text,
    p_key text []
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The key as tidemark.absorbed_changes has it.
declare
    v_key text;
begin
    execute tidemark._laid_out(
        'select json_build_object({printed_key})::text '
        'from (select {stored_keys} from rows from (json_to_record($1) as ({read_keys_as})) as c ({keys})) as c',
        tidemark._column_lists(p_dimension_name)
    )
    into v_key using tidemark._key_as_change(p_dimension_name, p_key);
    return v_key;
end;
$$;

create or replace function tidemark._key_hash(
    p_dimension_name text,
    p_key text
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- HMAC-SHA-256 of a key, in hexadecimal, with the secret of this warehouse.
select encode(sha256(p.outer_pad || sha256(p.inner_pad || convert_to(p_dimension_name || e'\n' || p_key, 'UTF8'))), 'hex')
from (
    select
        string_agg(set_byte('\x00', 0, get_byte(s.secret, i.place) # 54), '' order by i.place) as inner_pad,
        string_agg(set_byte('\x00', 0, get_byte(s.secret, i.place) # 92), '' order by i.place) as outer_pad
    from tidemark.forgetting_secret as s
    cross join generate_series(0, 63) as i (place)
) as p;
$$;

create or replace function tidemark._places_of_key(
    p_dimension_name text,
    p_key text [],
    p_changes json
)
returns integer []
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Where, among changes with the names of today, those of a key are, from 1. Where a key cannot be read, halves are looked at by
-- themselves; one that stands alone is of this key if it says so word for word.
declare
    v_places integer [];
    v_half integer;
begin
    execute tidemark._laid_out(
        $query$
        select coalesce(array_agg(c._place::integer order by c._place), array[]::integer[])
        from (
            select {stored_keys}, c._place
            from rows from (json_to_recordset($1) as ({read_keys_as})) with ordinality as c ({keys}, _place)
        ) as c
        where json_build_object({printed_key})::text = $2
        $query$,
        tidemark._column_lists(p_dimension_name)
    )
    into v_places using p_changes, tidemark._asked_key(p_dimension_name, p_key);
    return v_places;
exception
    when data_exception or invalid_parameter_value then
        v_half := json_array_length(p_changes) / 2;
        if v_half = 0 then
            return case
                when json_typeof(p_changes -> 0) = 'object' and not exists (
                    select
                    from json_each_text(tidemark._key_as_change(p_dimension_name, p_key)) as k (name, value)
                    where k.value is distinct from p_changes -> 0 ->> k.name
                ) then array[1]
                else array[]::integer[]
            end;
        end if;
        return (
            select tidemark._places_of_key(p_dimension_name, p_key, json_agg(e.change order by e.place) filter (where e.place <= v_half))
                || array(
                    select p.place + v_half
                    from unnest(tidemark._places_of_key(
                        p_dimension_name, p_key, json_agg(e.change order by e.place) filter (where e.place > v_half)
                    )) as p (place)
                )
            from json_array_elements(p_changes) with ordinality as e (change, place)
        );
end;
$$;
