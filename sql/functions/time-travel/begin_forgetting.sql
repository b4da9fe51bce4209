create or replace function tidemark.begin_forgetting(
    p_dimension_name text,
    p_key text [],
    p_reference text,
    p_keep_shells boolean default false,
    p_who text default null
)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Notes that a key is about to be forgotten, before anything is: p_reference is the name of the ticket that asks for it. p_key has a
-- value for each column of the key, as a change has it. With p_keep_shells its versions are to stay, with their times and no values.
-- Returns the number of the note, in tidemark.forgettings; what comes after it needs that alone, for the note has an HMAC of the key.
-- Safe to repeat: one that was cut off goes on under its number. For the owner of the warehouse: nobody else reads the secret.
-- Errors: TM002 unknown table, TM012 no reference, or one that was cut off kept shells, or did not; TM020 another number of key columns,
-- TM031 shells cannot stand in the history; and what PostgreSQL says of a value that is none.
declare
    v_hash text;
    v_note tidemark.forgettings;
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
    select f.* into v_note
    from tidemark.forgettings as f
    where f.dimension_name = p_dimension_name and f.key_hash = v_hash and f.finished_at is null
    order by f.begun_at
    limit 1;
    if v_note.keeps_shells <> p_keep_shells then
        raise exception using
            errcode = 'TM012',
            message = format('the forgetting that was cut off kept %sshells', case when not v_note.keeps_shells then 'no ' end),
            detail = format('table=%s forgetting=%s', p_dimension_name, v_note.forgetting_id),
            hint = format('finish it as it began, %s --keep-shells', case when v_note.keeps_shells then 'with' else 'without' end);
    elsif v_note.forgetting_id is not null then
        -- All that is known of the key by now goes.
        update tidemark.forgettings as f
        set reference = p_reference, captured_until = null
        where f.forgetting_id = v_note.forgetting_id;
        return v_note.forgetting_id;
    end if;
    v_note.token := case
        when p_keep_shells then tidemark._shell_token(p_dimension_name)
        else array_fill('forgotten-' || left(replace(gen_random_uuid()::text, '-', ''), 16), array[cardinality(p_key)])
    end;
    if p_keep_shells then
        perform tidemark._assert_shells_stand(p_dimension_name, v_note.token);
    end if;
    insert into tidemark.forgettings as f (dimension_name, reference, forgotten_by, begun_at, key_hash, token, keeps_shells)
    values (
        p_dimension_name, p_reference, tidemark._who(p_who), clock_timestamp(), v_hash, v_note.token, p_keep_shells
    )
    returning f.forgetting_id into v_note.forgetting_id;
    return v_note.forgetting_id;
end;
$$;

revoke execute on function tidemark.begin_forgetting (text, text [], text, boolean, text) from public;

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

create or replace function tidemark._hash_pads(
    out inner_pad bytea,
    out outer_pad bytea
)
returns record
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The secret of this warehouse, as HMAC-SHA-256 takes it.
select
    string_agg(set_byte('\x00', 0, get_byte(s.secret, i.place) # 54), '' order by i.place),
    string_agg(set_byte('\x00', 0, get_byte(s.secret, i.place) # 92), '' order by i.place)
from tidemark.forgetting_secret as s
cross join generate_series(0, 63) as i (place);
$$;

create or replace function tidemark._keyed_hash(
    p_inner_pad bytea,
    p_outer_pad bytea,
    p_text text
)
returns text
language sql
immutable
parallel safe
as $$
-- HMAC-SHA-256 of a text, in hexadecimal. Carries no "set" clause, so that it is planned as part of the query around it.
select encode(sha256(p_outer_pad || sha256(p_inner_pad || convert_to(p_text, 'UTF8'))), 'hex');
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
-- HMAC-SHA-256 of a key, as it is printed, with the secret of this warehouse.
select tidemark._keyed_hash(p.inner_pad, p.outer_pad, p_dimension_name || e'\n' || p_key) from tidemark._hash_pads() as p;
$$;

create or replace function tidemark._places_of_keys(
    p_forgetting_ids bigint [],
    p_extracted_at timestamptz,
    p_changes json
)
returns table (
    place integer,
    forgetting_id bigint
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Where, among changes with the names of today, those of forgotten keys are, from 1, and which forgetting is about each. A forgetting that
-- knows up to when it was about leaves later changes alone; p_extracted_at is the capture time of changes that state none.
with asked as (
    select f.* from tidemark.forgettings as f where f.forgetting_id = any (p_forgetting_ids)
),
hashed as materialized (
    select k.place, tidemark._keyed_hash(p.inner_pad, p.outer_pad, d.dimension_name || e'\n' || k.business_key) as key_hash
    from (select distinct a.dimension_name from asked as a) as d
    cross join lateral tidemark._printed_keys(d.dimension_name, p_changes) as k
    cross join tidemark._hash_pads() as p
)
select distinct on (h.place) h.place, a.forgetting_id
from hashed as h
join asked as a using (key_hash)
where a.captured_until is null or tidemark._capture_time(p_changes -> (h.place - 1), p_extracted_at) <= a.captured_until
order by h.place, a.captured_until;
$$;

create or replace function tidemark._shell_token(
    p_dimension_name text
)
returns text []
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- A random value for each column of a key, which no version has: a text that begins with "forgotten-", a uuid that begins with zeros, or a
-- number below zero. tidemark.shell_keys has those that are in use.
-- Errors: TM031 a column of the key takes none of these, or the history is distributed.
declare
    v_hexadecimal text := replace(gen_random_uuid()::text, '-', '');
    v_number bigint := ('x' || left(v_hexadecimal, 12))::bit(48)::bigint;
    v_token text [];
    v_unfit text;
    v_is_taken boolean;
begin
    if tidemark._distributed_by(p_dimension_name) is not null then
        raise exception using
            errcode = 'TM031',
            message = 'shells cannot be kept in a history that Citus distributes: the key of a version stays on its node',
            detail = format('table=%s', p_dimension_name),
            hint = 'without --keep-shells the versions of the key are erased';
    end if;
    select array_agg(t.value order by c.ordinal),
        string_agg(format('%s %s', c.history_column, c.type_name), ', ' order by c.ordinal) filter (where t.value is null)
    into v_token, v_unfit
    from (
        select c.ordinal, c.history_column, t.type_name,
            case
                when t.type_name = 'smallint' then 4
                when t.type_name = 'integer' then 9
                when t.type_name in ('bigint', 'numeric') then 15
                when t.type_name ~ '^numeric\(\d+,\d+\)$' then least(15, s.limits[1] - s.limits[2])
            end as digits,
            case
                when t.type_name in ('text', 'character varying') then 26
                when t.type_name ~ '^character( varying)?\(\d+\)$' then least(26, s.limits[1])
            end as letters
        from tidemark.dimension_columns as c
        join tidemark.dimensions as d on d.dimension_name = c.dimension_name
        join pg_attribute as a on a.attrelid = d.history_relation and a.attname = c.history_column
        cross join lateral (select tidemark._undomained_type(a.atttypid, a.atttypmod) as type_name) as t
        cross join lateral (
            select array_agg(m.digits[1]::integer) as limits from regexp_matches(t.type_name, '\d+', 'g') as m (digits)
        ) as s
        where c.dimension_name = p_dimension_name and c.column_role = 'business key'
    ) as c
    cross join lateral (
        select case
            when c.type_name = 'uuid' then '00000000-0000-8000-8000-' || left(v_hexadecimal, 12)
            when c.letters >= 18 then left('forgotten-' || v_hexadecimal, c.letters)
            when c.digits >= 4 then (-(10 ^ (c.digits - 1))::bigint - v_number % (9 * 10 ^ (c.digits - 1))::bigint)::text
        end as value
    ) as t;
    if v_unfit is not null then
        raise exception using
            errcode = 'TM031',
            message = format('shells cannot be kept: what takes the place of the key cannot stand in %s', v_unfit),
            detail = format('table=%s', p_dimension_name),
            hint = 'a text of 18 letters, a number of 4 digits or a uuid could; without --keep-shells the versions go, whatever the key';
    end if;
    execute tidemark._laid_out(
        'select exists (select from json_to_record($1) as c ({keys_as}), {versions} as h where {same_key: and})',
        tidemark._column_lists(p_dimension_name)
    )
    into v_is_taken using tidemark._asked_key(p_dimension_name, v_token)::json;
    return case when v_is_taken then tidemark._shell_token(p_dimension_name) else v_token end;
end;
$$;

create or replace function tidemark._shell_columns(
    p_dimension_name text
)
returns table (
    name text,
    is_required boolean
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The columns of a history table that may hold a value of a row, its key apart: what is neither Tidemark's own nor computed.
select a.attname::text, a.attnotnull
from tidemark.dimensions as d
join pg_attribute as a on a.attrelid = d.history_relation and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
where d.dimension_name = p_dimension_name
    and a.attname not in (
        'surrogate_key', 'valid_from', 'valid_to', 'is_current', 'cdc_operation', 'cdc_timestamp', 'batch_id', 'created_at', 'updated_at',
        'captured_at', 'change_line'
    )
    and not exists (
        select
        from tidemark.dimension_columns as c
        where c.dimension_name = d.dimension_name and c.history_column = a.attname and c.column_role = 'business key'
    )
order by a.attnum;
$$;

create or replace function tidemark._assert_shells_stand(
    p_dimension_name text,
    p_token text []
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Errors: TM031 a version without values would break a rule of the history table: a column that may not be null, or a check constraint.
declare
    v_broken text := (
        select string_agg(quote_ident(c.name), ', ') from tidemark._shell_columns(p_dimension_name) as c where c.is_required
    );
    v_rule record;
    v_holds boolean;
begin
    if v_broken is null then
        for v_rule in select r.rule_name, r.expression from tidemark._history_rules(p_dimension_name) as r order by r.rule_name loop
            execute format(
                'select coalesce(%s, true) from json_populate_record(null::%s, $1) as c',
                v_rule.expression, (select d.history_relation from tidemark.dimensions as d where d.dimension_name = p_dimension_name)
            )
            into v_holds using tidemark._asked_key(p_dimension_name, p_token)::json;
            if not v_holds then
                v_broken := concat_ws(', ', v_broken, 'constraint ' || quote_ident(v_rule.rule_name));
            end if;
        end loop;
    end if;
    if v_broken is not null then
        raise exception using
            errcode = 'TM031',
            message = format('shells cannot be kept: a version without values cannot stand in the history: %s', v_broken),
            detail = format('table=%s', p_dimension_name),
            hint = 'nothing was erased: let these columns be null in the history table, and compile it again (tidemark.compile_dimension), '
                'or forget without --keep-shells';
    end if;
end;
$$;
