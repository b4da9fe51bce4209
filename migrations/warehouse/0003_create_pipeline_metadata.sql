-- Up Migration
-- One row a run of the pipeline: when, how it ended, and what it measured.

create table public.pipeline_metadata (
    id bigint generated always as identity,
    pipeline_name varchar(100) not null,
    run_id varchar(100) not null,
    start_time timestamp not null,
    end_time timestamp,
    status varchar(20) not null,
    performance_metrics jsonb,
    created_at timestamp not null default current_timestamp,
    updated_at timestamp not null default current_timestamp,
    constraint pipeline_metadata_pkey primary key (id),
    constraint a_run_has_one_row unique (run_id),
    constraint run_status_is_known check (status in ('running', 'succeeded', 'failed', 'interrupted')),
    constraint a_run_that_ended_has_an_end_time check ((status = 'running') = (end_time is null))
);

create index pipeline_metadata_running_idx on public.pipeline_metadata (id) where status = 'running';

comment on table public.pipeline_metadata is 'Runs of the pipeline. Times are UTC.';
comment on column public.pipeline_metadata.id is 'Number of the row.';
comment on column public.pipeline_metadata.pipeline_name is 'What ran: extract or load.';
comment on column public.pipeline_metadata.run_id is 'Name of the run, found in its log lines too.';
comment on column public.pipeline_metadata.start_time is 'When it began.';
comment on column public.pipeline_metadata.end_time is 'When it ended; null while it runs.';
comment on column public.pipeline_metadata.status is 'running, succeeded, failed or interrupted.';
comment on column public.pipeline_metadata.performance_metrics is 'What it counted and measured; while it runs, its warehouse session (backend_pid, backend_start).';
comment on column public.pipeline_metadata.created_at is 'When the row was written.';
comment on column public.pipeline_metadata.updated_at is 'When the row was last changed.';
