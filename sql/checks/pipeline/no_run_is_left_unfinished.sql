-- A hit is a run marked running whose session is gone: its process died.
-- Nothing is lost by that; the next run closes it as interrupted and goes on where it stopped.
select r.pipeline_name, r.run_id, r.start_time, r.performance_metrics ->> 'backend_pid' as backend_pid
from public.pipeline_metadata as r
where r.status = 'running' and not tidemark.is_run_alive(r.performance_metrics)
order by r.start_time, r.run_id;
