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

create function torture.load(p_load integer)
returns void
language plpgsql
as $$
declare
    v_lines text;
    v_changes integer;
    v_captured_at timestamptz;
begin
    select string_agg(row_to_json(r)::text, E',\n' order by c.line), count(*), max(c.captured_at)
    into v_lines, v_changes, v_captured_at
    from torture.changes as c
    cross join lateral (
        select c.id, c.updated_at, c.a, c.n, c.operation as operation_type, c.updated_at as cdc_timestamp, c.captured_at as extracted_at
    ) as r
    where c.load = p_load;
    perform from tidemark.apply_batch(format(
        E'{\n"batch_metadata": %s,\n"changes": [\n%s\n]}\n',
        json_build_object(
            'batch_id', 'load_' || p_load, 'table', 'torture', 'extracted_at', v_captured_at, 'change_count', v_changes,
            'watermark', null, 'checksum', encode(sha256(convert_to(v_lines || E'\n', 'UTF8')), 'hex')
        ),
        v_lines
    )::json);
end;
$$;

create view torture.history as
select id, valid_from, valid_to, a, n::text as n
from public.dim_torture_history;
