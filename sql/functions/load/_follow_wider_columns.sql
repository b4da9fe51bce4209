create or replace function tidemark._follow_wider_columns(
    p_dimension_name text,
    p_metadata json
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Makes history columns as wide as those of the source were when a batch was written (column_types in p_metadata), where that rewrites
-- nothing (tidemark._wider_types). Never narrower: batches from before and after fit in any order. Safe to repeat.
-- Comes before any other lock: takes the dimension for itself, which a loader that shared it already could not do beside another like it.
-- Readers of the history are waited for one second: else 55P03, and the batch is to be applied again.
-- Errors: TM024 something depends on the column that cannot be made anew.
declare
    v_types jsonb := tidemark._wider_types(p_dimension_name, p_metadata);
    v_timeout text := current_setting('lock_timeout');
begin
    if v_types is null then
        return;
    end if;
    perform tidemark._lock_dimension(p_dimension_name, '');
    -- Another loader may have done it meanwhile.
    v_types := tidemark._wider_types(p_dimension_name, p_metadata);
    if v_types is not null then
        perform set_config('lock_timeout', '1s', true);
        perform tidemark._retype_columns(p_dimension_name, v_types, coalesce(p_metadata ->> 'shard', ''), p_metadata ->> 'batch_id');
        perform set_config('lock_timeout', v_timeout, true);
    end if;
end;
$$;

create or replace function tidemark._wider_types(
    p_dimension_name text,
    p_metadata json
)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The history columns that a batch says to be wider at the source, and the types they have there, as {"column": "type"}; null where there
-- is none. A domain in history is never touched. Asked once a batch, so it looks only at columns that could be wider. A batch says which
-- history columns its names meant (history_columns, as in tidemark._present_names). PL/pgSQL, to keep its plans.
declare
    v_types jsonb := case when json_typeof(p_metadata -> 'column_types') = 'object' then p_metadata -> 'column_types' end;
    v_names jsonb;
begin
    if v_types is null then
        return null;
    end if;
    if json_typeof(p_metadata -> 'history_columns') = 'object' then
        v_names := (select jsonb_object_agg(m.value, m.key) from json_each_text(p_metadata -> 'history_columns') as m);
    end if;
    return (
        select jsonb_object_agg(c.history_column, s.type)
        from tidemark.dimensions as d
        join tidemark.dimension_columns as c on c.dimension_name = d.dimension_name
        join pg_attribute as a on a.attrelid = d.history_relation and a.attname = c.history_column
        cross join lateral (
            select v_types ->> case when v_names is null then c.source_column else v_names ->> c.history_column end as type
        ) as s
        where d.dimension_name = p_dimension_name and c.column_role in ('business key', 'tracked', 'untracked') and a.atttypmod <> -1
            and s.type <> format_type(a.atttypid, a.atttypmod) and tidemark._is_widened(format_type(a.atttypid, a.atttypmod), s.type)
    );
end;
$$;

create or replace function tidemark._is_widened(
    p_from text,
    p_to text
)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- Whether a type, as format_type prints it, takes every value of another and prints it the same, and PostgreSQL goes from the one to the
-- other without rewriting a row: a greater length or precision, or none. sql/source/read_table.sql ("widens") says the same.
-- False for any text that is no such type: what p_to says may be put into a statement.
declare
    v_pattern text :=
        '^(character varying|bit varying|numeric|interval|time|timestamp|text)(?:\((\d+)(?:,(-?\d+))?\))?( with(?:out)? time zone)?$';
    v_from text [] := regexp_match(p_from, v_pattern);
    v_to text [] := regexp_match(p_to, v_pattern);
begin
    return coalesce(
        v_from[2] is not null
        and (
            (v_from[1] = v_to[1] and v_from[4] is not distinct from v_to[4])
            or (v_from[1] = 'character varying' and v_to[1] = 'text')
        )
        and (v_to[2] is null or (v_from[2]::numeric < v_to[2]::numeric and v_from[3] is not distinct from v_to[3])),
        false
    );
end;
$$;
