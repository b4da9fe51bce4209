create or replace function tidemark.moment(
    p_dimension_name text,
    p_text text,
    p_is_known boolean default false,
    p_now timestamptz default transaction_timestamp()
)
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- A moment as people write it of one table, as an instant: what tidemark._moment reads, where it names no zone in that of the dimension's
-- source; or batch:<id>, the time of its latest capture, when all that it tells is in force; as p_is_known, that at which it was applied.
-- Errors: TM002 unknown dimension; invalid_parameter_value the text is none of these, or no batch has that name.
declare
    v_moment timestamptz;
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    if lower(btrim(p_text)) like 'batch:%' then
        select case when p_is_known then b.applied_at else b.greatest_captured_at end
        into v_moment
        from tidemark.batches as b
        where b.dimension_name = p_dimension_name and b.batch_id = substr(btrim(p_text), 7);
        if v_moment is null then
            raise exception using
                errcode = 'invalid_parameter_value',
                message = format('no batch of %s is called %s', p_dimension_name, substr(btrim(p_text), 7)),
                hint = 'tidemark.batches lists those that were applied, by batch_id';
        end if;
        return v_moment;
    end if;
    return (
        select tidemark._moment(p_text, d.source_time_zone, p_now)
        from tidemark.dimensions as d
        where d.dimension_name = p_dimension_name
    );
end;
$$;

create or replace function tidemark._moment(
    p_text text,
    p_time_zone text,
    p_now timestamptz
)
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set TimeZone = 'UTC'
as $$
-- A moment as people write it, as an instant: a date; a date and a time (2026-02-01 09:05), with a zone, or in p_time_zone; a time of
-- today; now, today, yesterday, tomorrow, infinity, -infinity; so long before or after p_now (-2h, -90min, +1d, -5 minutes).
-- Errors: invalid_parameter_value the text is none of these.
declare
    v_text text := lower(btrim(p_text));
begin
    -- For this call alone: the function has its own TimeZone.
    perform set_config('TimeZone', p_time_zone, true);
    if v_text = 'now' then
        return p_now;
    elsif v_text in ('today', 'yesterday', 'tomorrow') then
        return date_trunc('day', p_now) + case v_text when 'yesterday' then '-1 day' when 'tomorrow' then '1 day' else '0' end::interval;
    elsif v_text ~ '^[+-] *[0-9]+([.][0-9]+)? *[a-z]+$' then
        return p_now + v_text::interval;
    elsif v_text ~ '^[0-9]{1,2}:[0-9]{2}' then
        return format('%s %s', p_now::date, v_text)::timestamptz;
    elsif v_text ~ '^([0-9]{4,6}-[0-9]{1,2}-[0-9]{1,2}|[+-]?infinity$)' then
        return v_text::timestamptz;
    end if;
    raise invalid_datetime_format;
exception
    when invalid_datetime_format or datetime_field_overflow or invalid_text_representation or interval_field_overflow then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('%s is no moment', quote_literal(p_text)),
            hint = 'give 2026-02-01, "2026-02-01 09:05" (+02 for a zone), 09:05, now, today, yesterday, -2h, -3d or batch:<id>';
end;
$$;
