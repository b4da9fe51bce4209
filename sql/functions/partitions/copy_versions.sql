create or replace function tidemark.copy_versions(
    p_dimension_name text,
    p_limit integer
)
returns table (
    copied_versions bigint,
    listed_versions bigint
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Copies the next versions of a history, some p_limit of them, to the copy that tidemark.begin_partitioning made, in the order of their
-- keys: all of a key together. Copies those once more that were written meanwhile. All as of one snapshot: afterwards the copy is, up to
-- the last key that it has, what the history was then. So nothing else is to be remembered, and who is cut off goes on from there.
-- Returns how many versions were copied, none when all are, and how many that were listed were seen to.
-- Errors: TM006 in any isolation level but repeatable read, TM033 no copy was begun, or it can become none any more, 40001 a key was
-- forgotten since the snapshot was taken, which has it.
declare
    v_history regclass := (select p.history_relation from tidemark.partitionings as p where p.dimension_name = p_dimension_name);
begin
    if current_setting('transaction_isolation') <> 'repeatable read' then
        raise exception using
            errcode = 'TM006',
            message = 'tidemark.copy_versions must run in repeatable read',
            detail = format('transaction_isolation=%s', current_setting('transaction_isolation')),
            hint = 'begin the transaction with isolation level repeatable read: what is listed and what is there must be of one moment';
    end if;
    if v_history is not null then
        -- Who forgets (tidemark._hold_copy) updates the row. The table comes first, as with who truncates it.
        execute format('lock table %s in access share mode', v_history);
        perform from tidemark.partitionings as p where p.dimension_name = p_dimension_name for share;
    end if;
    perform tidemark._assert_copy_good(p_dimension_name);
    return query select c.copied_versions, c.listed_versions from tidemark._copy_versions(p_dimension_name, p_limit) as c;
end;
$$;

create or replace function tidemark._assert_copy_good(
    p_dimension_name text
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Errors: TM033 no copy of the history was begun, or it can become none any more.
begin
    if not tidemark._is_copy_good(p_dimension_name) then
        raise exception using
            errcode = 'TM033',
            message = 'the copy of the history is good for nothing: the history table was altered or truncated, or one of its triggers was',
            detail = format('table=%s', p_dimension_name),
            hint = 'nothing is lost: run the same command again, and it begins anew';
    end if;
end;
$$;

create or replace function tidemark._copy_versions(
    p_dimension_name text,
    p_limit integer
)
returns table (
    copied_versions bigint,
    listed_versions bigint
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
-- See tidemark.copy_versions; p_limit null: all that is left.
-- Only indexes are to be used: nobody knows beforehand how many versions lie between two keys.
-- Errors: TM033 a version without a key is listed.
declare
    v_parts jsonb := tidemark._copy_parts(p_dimension_name);
    v_is_last boolean;
    v_ending text;
begin
    listed_versions := tidemark._copy_listed(p_dimension_name);

    v_parts := v_parts || jsonb_build_object('next_keys', case
        when tidemark._is_empty((v_parts ->> 'copy')::regclass) then 'true'
        else tidemark._laid_out('({keys}) > {last_key}', v_parts)
    end);
    v_ending := format('from {history} as h where {next_keys} order by {keys} offset %s limit 1', p_limit - 1);
    v_is_last := true;
    if p_limit is not null then
        execute tidemark._laid_out(format('select not exists (select %s)', v_ending), v_parts) into v_is_last;
    end if;
    execute tidemark._laid_out(
        'insert into {copy} ({columns}) overriding system value select {version_columns} from {history} as h '
        'where {next_keys}' || case when v_is_last then '' else format(' and ({keys}) <= (select {keys} %s)', v_ending) end,
        v_parts
    );
    get diagnostics copied_versions = row_count;
    return next;
end;
$$;

create or replace function tidemark._copy_listed(
    p_dimension_name text
)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
-- Copies the versions once more that were written meanwhile: what is listed is taken out of the copy first; what of it is to be there again
-- comes with the keys that the copy has by now, or with the next ones. All statements must see the same list: in a snapshot, or where
-- nobody writes. Returns how many entries the list had. Errors: TM033 a version without a key is listed.
declare
    v_parts jsonb := tidemark._copy_parts(p_dimension_name);
    v_is_keyless boolean;
    v_listed bigint;
begin
    execute tidemark._laid_out('select exists (select from {changes} as c where {key_is_null: or})', v_parts) into v_is_keyless;
    if v_is_keyless then
        raise exception using
            errcode = 'TM033',
            message = 'a version without a key was written to the history meanwhile',
            detail = format('table=%s', p_dimension_name),
            hint = 'no version can be told apart without one: see who wrote it, and delete it';
    end if;
    execute tidemark._laid_out('delete from {copy} as h using {changes} as c where {same_version: and}', v_parts);
    execute tidemark._laid_out(
        'insert into {copy} ({columns}) overriding system value select {version_columns} from {history} as h '
        'join (select distinct c.* from {changes} as c) as c on {same_version: and} where ({keys}) <= {last_key}',
        v_parts
    );
    execute tidemark._laid_out('delete from {changes} as c', v_parts);
    get diagnostics v_listed = row_count;
    return v_listed;
end;
$$;

create or replace function tidemark._hold_copy(
    p_dimension_name text
)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- For who forgets a key while a copy of its history is made, or lies there cut off: holds history and copy against who writes to them
-- until the transaction ends, and ends a slice whose snapshot has the key. tidemark._forget_in_copy comes when the key is erased. Returns
-- whether there is a copy.
declare
    v_history regclass;
begin
    update tidemark.partitionings as p
    set compared_at = p.compared_at
    where p.dimension_name = p_dimension_name
    returning p.history_relation into v_history;
    if v_history is null then
        return false;
    end if;
    if exists (select from pg_class as c where c.oid = v_history) then
        execute format('lock table %s in share row exclusive mode', v_history);
    end if;
    return true;
end;
$$;

create or replace function tidemark._forget_in_copy(
    p_dimension_name text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Erases from the copy of a history (tidemark.begin_partitioning) what was erased from the history in this transaction, and from the list
-- of versions that were written; of a copy that can become none any more, all.
declare
    v_table text;
begin
    if tidemark._is_copy_good(p_dimension_name) then
        perform tidemark._copy_listed(p_dimension_name);
        return;
    end if;
    for v_table in
        select c.oid::regclass::text
        from tidemark.partitionings as p
        join pg_class as c on c.oid in (p.copy_relation, p.changes_relation)
        where p.dimension_name = p_dimension_name
    loop
        execute format('truncate %s', v_table);
    end loop;
    update tidemark.partitionings as p set is_void = true where p.dimension_name = p_dimension_name;
end;
$$;

create or replace function tidemark._is_empty(
    p_relation regclass
)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Whether a table has no row.
declare
    v_is_empty boolean;
begin
    execute format('select not exists (select from %s)', p_relation) into v_is_empty;
    return v_is_empty;
end;
$$;

create or replace function tidemark._copy_parts(
    p_dimension_name text
)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What differs from history to history in the statements that copy one, for tidemark._laid_out: h is a version, c one that is listed.
select jsonb_build_object(
    'own', '_',
    'history', p.history_relation::text,
    'copy', p.copy_relation::text,
    'changes', p.changes_relation::text,
    'columns', a.columns,
    'version_columns', a.version_columns,
    'whole_version', a.whole_version,
    'keys', k.keys,
    'same_version', '["h.surrogate_key = c.surrogate_key"]'::jsonb || k.same_keys,
    'key_is_null', k.key_is_null,
    'last_key', format('(select %s from %s as h order by %s limit 1)', k.key_list, p.copy_relation, k.last_first)
)
from tidemark.partitionings as p
cross join lateral (
    select
        jsonb_agg(quote_ident(a.attname) order by a.attnum) filter (where a.attgenerated = '') as columns,
        jsonb_agg('h.' || quote_ident(a.attname) order by a.attnum) filter (where a.attgenerated = '') as version_columns,
        jsonb_agg('h.' || quote_ident(a.attname) order by a.attnum) as whole_version
    from pg_attribute as a
    where a.attrelid = p.history_relation and a.attnum > 0 and not a.attisdropped
) as a
cross join lateral (
    select
        jsonb_agg(format('h.%I', k.column_name) order by k.place) as keys,
        string_agg(format('h.%I', k.column_name), ', ' order by k.place) as key_list,
        string_agg(format('h.%I desc', k.column_name), ', ' order by k.place) as last_first,
        jsonb_agg(format('h.%I = c.key_%s', k.column_name, k.place) order by k.place) as same_keys,
        jsonb_agg(format('c.key_%s is null', k.place) order by k.place) as key_is_null
    from tidemark._key_places(p_dimension_name) as k
) as k
where p.dimension_name = p_dimension_name;
$$;
