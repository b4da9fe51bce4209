import type { Database } from '../base/database.js';

/** A run that is alive, as pipeline_metadata has it. */
export interface LiveRun {
  readonly pipeline_name: string;
  readonly run_id: string;
  readonly start_time: string;
  readonly performance_metrics: Readonly<Record<string, unknown>>;
}

/** Notes the start of a run. The connection must stay open until `finishRun`: it is how a check knows the run is alive. */
export async function startRun(
  warehouse: Database,
  pipelineName: string,
  runId: string,
  secondsAgo = 0,
  metrics: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  await warehouse`
    select tidemark.start_run(
      p_pipeline_name => ${pipelineName}, p_run_id => ${runId}, p_seconds_ago => ${String(secondsAgo)}::double precision,
      p_performance_metrics => ${JSON.stringify(metrics)}::text::jsonb)`;
}

/** Notes what a run measured so far, and the session it now has. False where the warehouse does not know the run. */
export async function continueRun(
  warehouse: Database,
  runId: string,
  metrics: Readonly<Record<string, unknown>>,
): Promise<boolean> {
  const [row] = await warehouse<[{ is_known: boolean }]>`
    select tidemark.continue_run(p_run_id => ${runId}, p_performance_metrics => ${JSON.stringify(metrics)}::text::jsonb) as is_known`;
  return row.is_known;
}

/** Notes the end of a run. */
export async function finishRun(
  warehouse: Database,
  runId: string,
  status: 'succeeded' | 'failed' | 'interrupted',
  metrics: Readonly<Record<string, unknown>>,
): Promise<void> {
  await warehouse`
    select tidemark.finish_run(p_run_id => ${runId}, p_status => ${status}, p_performance_metrics => ${JSON.stringify(metrics)}::text::jsonb)`;
}

/** The runs that are alive now, from whatever machine. */
export async function liveRuns(warehouse: Database): Promise<LiveRun[]> {
  return warehouse<LiveRun[]>`select * from tidemark.live_runs()`;
}
