-- Makes anew the views that show all dimensions in one shape, which is what the checks read; called at each registration.
--   tidemark.versions        every version
--   tidemark.neighbours      every version beside the ones before and after it of its key
--   tidemark.keys_in_force   every key with a version in force, and how many
-- A time without zone appears as if it were UTC, so that all histories share one type. Within an arm a key is sorted and grouped by its
-- own columns, which indexes serve, and printed only where a row is shown: that halves the time of a check that walks all keys.
-- The views are replaced, not dropped, or they would lose what was granted on them: so every column has a type of its own.
create or replace function tidemark._create_versions_view()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_view record;
    v_arms text;
begin
    for v_view in select t.view_name, t.template from tidemark._version_templates() as t loop
        select string_agg(
            tidemark._fill_template(v_view.template, tidemark._version_fragments(d.dimension_name)), ' union all ' order by d.dimension_name
        )
        into v_arms
        from tidemark.dimensions as d;
        if v_arms is null then
            perform tidemark._clear_versions_view();
        else
            execute format('create or replace view tidemark.%I as %s', v_view.view_name, v_arms);
        end if;
    end loop;

    comment on view tidemark.versions is 'Every version of every dimension in one shape; made by tidemark.register_dimension.';
    comment on column tidemark.versions.business_key is 'The key as a JSON object, by history column.';
    comment on column tidemark.versions.tracked_values is 'The tracked columns as PostgreSQL prints them; equal text is equal content.';
    comment on view tidemark.neighbours is 'Every version beside the versions of its key before and after it.';
    comment on column tidemark.neighbours.business_key is 'The key as a JSON object, by history column.';
    comment on column tidemark.neighbours.equals_previous is 'Whether its tracked columns print as those of the version before.';
    comment on view tidemark.keys_in_force is 'Every key with a version in force, and how many it has.';
    comment on column tidemark.keys_in_force.business_key is 'The key as a JSON object, by history column.';
end;
$$;
