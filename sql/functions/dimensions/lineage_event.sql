create or replace function tidemark.lineage_event(
    p_event jsonb,
    p_about jsonb,
    p_source_namespace text,
    p_source_database text,
    p_warehouse_namespace text,
    p_log_folder text
)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- A run event of OpenLineage with all that is known of it: to p_event, whose members are those of a RunEvent without facets, come the
-- facets of run and job, and the datasets (tidemark.lineage_datasets). p_about says of what it is: name and id of the part of the pipeline,
-- whether it goes on (isWatching), and the version; for its work on a table also table, which datasets it reads and writes (reads), and
-- rows, where they are counted; of a failure code. No value of a row is in it, nor the message of an error, which may hold one.
select p_event
    || jsonb_build_object(
        'run', (p_event -> 'run') || jsonb_build_object('facets', jsonb_strip_nulls(jsonb_build_object(
            'processing_engine', tidemark._lineage_facet(
                p_event, 'ProcessingEngineRunFacet', '1-1-1', jsonb_build_object('name', 'Tidemark', 'version', p_about -> 'version')
            ),
            'parent', case when p_about ? 'table' then tidemark._lineage_facet(p_event, 'ParentRunFacet', '1-2-0', jsonb_build_object(
                'run', jsonb_build_object('runId', p_about -> 'id'),
                'job', jsonb_build_object('namespace', p_event #> '{job,namespace}', 'name', p_about -> 'name')
            )) end,
            'errorMessage', case p_event ->> 'eventType' when 'FAIL' then tidemark._lineage_facet(
                p_event, 'ErrorMessageRunFacet', '1-0-1', jsonb_build_object(
                    'message', concat(
                        p_event #>> '{job,name}', ' failed', ' (' || (p_about ->> 'code') || ')',
                        ': the log of run ', p_about ->> 'id', ' says why'
                    ),
                    'programmingLanguage', 'SQL'
                )
            ) end
        ))),
        'job', (p_event -> 'job') || jsonb_build_object('facets', jsonb_build_object('jobType', tidemark._lineage_facet(
            p_event, 'JobTypeJobFacet', '2-0-4', jsonb_build_object(
                'processingType', case when (p_about ->> 'isWatching')::boolean then 'STREAMING' else 'BATCH' end,
                'integration', 'TIDEMARK'
            )
        )))
    )
    || coalesce((
        select case
            when p_about ? 'rows' then jsonb_set(
                d.datasets, '{outputs,0,outputFacets}', jsonb_build_object('outputStatistics', tidemark._lineage_facet(
                    p_event, 'OutputStatisticsOutputDatasetFacet', '1-0-2', jsonb_build_object('rowCount', p_about -> 'rows')
                ))
            )
            else d.datasets
        end
        from (
            select to_jsonb(l) -> (p_about ->> 'reads') as datasets
            from tidemark.lineage_datasets(
                p_event ->> 'producer', p_source_namespace, p_source_database, p_warehouse_namespace, p_log_folder, p_about ->> 'table'
            ) as l
            where p_about ? 'table'
        ) as d
    ), '{}');
$$;

create or replace function tidemark._lineage_facet(
    p_event jsonb,
    p_name text,
    p_version text,
    p_body jsonb
)
returns jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- A facet of an event, with who made it and by which schema.
select jsonb_build_object(
    '_producer', p_event -> 'producer',
    '_schemaURL', format('https://openlineage.io/spec/facets/%1$s/%2$s.json#/$defs/%2$s', p_version, p_name)
) || p_body;
$$;
