-- Tidemark: the changes of a load as a batch document, applied by tidemark.apply_batch.
create table public.dim_torture_history (
    surrogate_key bigint generated always as identity primary key,
    id integer not null,
    a text,
    n numeric,
    valid_from timestamptz not null,
    valid_to timestamptz,
    is_current boolean not null,
    cdc_operation text not null,
    cdc_timestamp timestamptz not null,
    batch_id text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    captured_at timestamptz not null,
    change_line integer not null,
    unique (id, valid_from),
    check (valid_to > valid_from),
    check (is_current = (valid_to is null))
);

create unique index on public.dim_torture_history (id) where is_current;

select tidemark.register_dimension(
    p_dimension_name => 'torture', p_source_schema => 'public', p_source_table => 'torture',
    p_history_relation => 'public.dim_torture_history',
    p_columns => '[{"source": "id", "history": "id", "role": "business key"},
        {"source": "updated_at", "history": "valid_from", "role": "effective time"},
        {"source": "a", "history": "a", "role": "tracked"}, {"source": "n", "history": "n", "role": "tracked"}]'
);

-- Nothing is to be done for a column that was widened: a load says of what types its columns are.
create function torture.alter(p_was text, p_name text, p_type text)
returns void
language plpgsql
as $$
begin
    if p_was is null then
        execute format('alter table public.dim_torture_history add column %I %s', p_name, p_type);
        perform tidemark.add_dimension_column('torture', p_name, p_name, 'tracked');
    elsif p_was <> p_name then
        perform tidemark.rename_source_column('torture', p_was, p_name);
    end if;
end;
$$;

create function torture.load(p_load integer)
returns void
language plpgsql
as $$
declare
    v_lines text;
    v_changes integer;
    v_captured_at timestamptz;
    v_types json := (
        select json_object_agg(s.name, s.type)
        from (select distinct on (k.name) k.* from torture.columns as k where k.load <= p_load order by k.name, k.line desc) as s
    );
begin
    select
        string_agg((to_jsonb(r) - array(select unnest('{a,n,b}'::text []) except select unnest(c.columns)))::text, E',\n' order by c.line),
        count(*), max(c.captured_at)
    into v_lines, v_changes, v_captured_at
    from torture.changes as c
    cross join lateral (
        select c.id, c.updated_at, c.a, c.n, c.b, c.operation as operation_type, c.updated_at as cdc_timestamp, c.captured_at as extracted_at
    ) as r
    where c.load = p_load;
    perform from tidemark.apply_batch(format(
        E'{\n"batch_metadata": %s,\n"changes": [\n%s\n]}\n',
        json_build_object(
            'batch_id', 'load_' || p_load, 'table', 'torture', 'extracted_at', v_captured_at, 'change_count', v_changes,
            'watermark', null, 'checksum', encode(sha256(convert_to(v_lines || E'\n', 'UTF8')), 'hex'), 'column_types', v_types
        ),
        v_lines
    )::json);
end;
$$;

-- What it has of a column that it need not have.
create view torture.history as
select h.id, h.valid_from, h.valid_to, h.a, h.n::text as n, to_jsonb(h) ->> 'b' as b
from public.dim_torture_history as h;
