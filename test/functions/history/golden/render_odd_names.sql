-- Events of odd_names as CloudEvents in JSON, by rows of tidemark.events that have positions, with key and tracked columns of the
-- versions they are about, without masked ones. What tidemark.read_events says of values that are left out is done here.
-- was_before: the version before is what it was; is_there: so is the version, or the end, that the event is about. A point of a key's time
-- is superseded where a later event corrects or retracts it, which is found by key and time in an index that has only such events.
-- Runs with the rights of its caller.
-- Written by tidemark.compile_dimension: change the mapping or the history, and compile it again, never this.
#variable_conflict use_column
declare
    v_source text := (select tidemark._uri_part(n.warehouse) || '/' || 'odd_names' from tidemark.event_numbering as n);
begin
    return query
    select r.event_position, 'odd_names', r.kind, r.event_type, r.event_id, coalesce(r.business_key, 'forgotten'),
        concat('{', concat_ws(
            ',',
            '"specversion":"1.0"',
            '"id":' || to_json(r.event_id),
            '"source":' || to_json('/' || v_source),
            '"type":' || to_json(r.event_type),
            '"subject":' || to_json(r.subject),
            case when r.effective_at >= '0001-01-01 00:00:00+00' then '"time":' || to_json(r.valid_from) end,
            '"datacontenttype":"application/json"',
            '"partitionkey":' || to_json(r.business_key),
            '"sequence":' || to_json(lpad(r.event_position::text, 19, '0')),
            '"data":' || r.data
        ), '}')
    from (
        select p.event_position, p.kind, p.business_key, p.effective_at, p.valid_from,
            replace('tidemark.odd_names.{kind}', '{kind}', p.kind) as event_type,
            concat(v_source, '/', p.event_position) as event_id,
            nullif((
                select json_agg(k.value order by k.place)::text
                from json_each(p.business_key::json) with ordinality as k (name, value, place)
            ), '') as subject,
            json_build_object(
                'kind', p.kind,
                'key', p.business_key::json,
                'point', case when p.kind <> 'forgotten' then case when p.is_end then 'end' else 'version' end end,
                'valid_from', p.valid_from,
                'before', case when s.was_before then (
                    select row_to_json(v.*)
                    from (select h_before.*) as c
                    cross join lateral (
                        select
                            c."Order Id", c.h::text as h, c.p_lines, c."{history}"::text as "{history}", c._line,
                            c.c::text as c
                    ) as v
                ) end,
                'after', case when s.is_there and h_after.surrogate_key is not null then (
                    select row_to_json(v.*)
                    from (select h_after.*) as c
                    cross join lateral (
                        select
                            c."Order Id", c.h::text as h, c.p_lines, c."{history}"::text as "{history}", c._line,
                            c.c::text as c
                    ) as v
                ) end,
                'changed', case when s.was_before and s.is_there and h_after.surrogate_key is not null then to_json(array_remove(array[
                    case when h_after.p_lines::text collate "C" is distinct from h_before.p_lines::text then 'p_lines' end,
                    case when h_after."{history}"::text collate "C" is distinct from h_before."{history}"::text then '{history}' end,
                    case when h_after._line::text collate "C" is distinct from h_before._line::text then '_line' end,
                    case when h_after.c::text collate "C" is distinct from h_before.c::text then 'c' end
                ]::text[], null)) end,
                'superseded', not s.is_there or not coalesce(s.was_before, true),
                'snapshot', p.is_snapshot,
                'lineage', json_build_object('batch_id', p.batch_id, 'line', p.change_line)
            )::text as data
        from (
            select e.*, g.first_position + e.place - 1 as event_position, g.batch_id,
                g.noted_at >= 'infinity'::timestamptz as is_watched, g.subscription_name is not null as is_snapshot,
                to_char(e.effective_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                    || case when e.effective_at < '0001-01-01 00:00:00+00' then ' BC' else '' end as valid_from
            from unnest(render_odd_names.p_events) as e
            cross join lateral (select o.* from tidemark.event_groups as o where o.group_id = e.group_id offset 0) as g
        ) as p
        -- "offset 0": a version or a group at a time, by its number, in each partition; else all might be read through for a page.
        left join lateral (
            select h.*
            from public."History of lines" as h
            where h.surrogate_key = p.version_key and p.kind not in ('retracted', 'forgotten')
            offset 0
        ) as h_after on true
        left join lateral (select h.* from public."History of lines" as h where h.surrogate_key = p.before_key offset 0) as h_before on true
        cross join lateral (
            select
                case when p.before_key is not null then p.business_key is not null and h_before.surrogate_key is not null
                    and p.is_watched and not exists (
                    select
                    from tidemark.events as x
                    cross join lateral (select o.* from tidemark.event_groups as o where o.group_id = x.group_id offset 0) as g
                    where g.dimension_name = 'odd_names' and x.business_key = p.business_key
                        and x.effective_at = h_before.valid_from and not x.is_end
                        and x.kind in ('corrected', 'retracted')
                        and (g.first_position is null or g.first_position + x.place - 1 > p.event_position)
                ) end as was_before,
                p.kind = 'forgotten' or (
                    p.business_key is not null
                    and (p.is_end or p.kind = 'retracted' or h_after.surrogate_key is not null and p.is_watched)
                    and (p.kind = 'retracted' or not exists (
                        select
                        from tidemark.events as x
                        cross join lateral (select o.* from tidemark.event_groups as o where o.group_id = x.group_id offset 0) as g
                        where g.dimension_name = 'odd_names' and x.business_key = p.business_key
                            and x.effective_at = p.effective_at and x.is_end = p.is_end
                            and x.kind in ('corrected', 'retracted')
                            and (g.first_position is null or g.first_position + x.place - 1 > p.event_position)
                    ))
                ) as is_there
            offset 0
        ) as s
    ) as r;
end;
