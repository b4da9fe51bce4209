-- Up Migration
-- A run may outlive its warehouse session, and the simulator has runs too: start_run takes more, so its old signature goes.

drop function if exists tidemark.start_run(text, text);

comment on column public.pipeline_metadata.pipeline_name is 'What ran: extract, load or simulate.';
comment on column public.pipeline_metadata.performance_metrics is
'What it counted and measured so far, and its warehouse session (backend_pid, backend_start), by which a live run is known.';
