-- What each run that is alive uses of its machine.
create or replace view tidemark.resource_kpis as
select r.*
from tidemark.resource_kpis() as r;

comment on view tidemark.resource_kpis is 'What each run that is alive uses of its machine, as it reported after its last round.';
comment on column tidemark.resource_kpis.pipeline_name is 'What runs: extract, stream, load, reconcile or simulate.';
comment on column tidemark.resource_kpis.run_id is 'The run.';
comment on column tidemark.resource_kpis.host is 'Its machine.';
comment on column tidemark.resource_kpis.process_id is 'Its process there.';
comment on column tidemark.resource_kpis.measured_at is 'When it reported.';
comment on column tidemark.resource_kpis.cpu_utilization is 'Processor time of the last round for each second of it; 1 is one core.';
comment on column tidemark.resource_kpis.memory_bytes is 'Resident memory, in bytes.';
comment on column tidemark.resource_kpis.memory_utilization is 'The same, as a share of what the machine has.';
comment on column tidemark.resource_kpis.disk_read_bytes_per_second is 'Bytes read from disk, since the report before.';
comment on column tidemark.resource_kpis.disk_written_bytes_per_second is 'Bytes written to disk, since the report before.';
comment on column tidemark.resource_kpis.disk_free_bytes is 'Free room on the disk of the change log, in bytes.';
comment on column tidemark.resource_kpis.disk_utilization is 'Used share of that disk.';
