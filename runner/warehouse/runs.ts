import type { Database } from '../base/database.js';
import { asJson, call, callForValue, perform, type Texts } from './call.js';

type Metrics = Readonly<Record<string, unknown>>;
const asMetrics = (metrics: Metrics) => asJson(JSON.stringify(metrics), 'jsonb');

/** A run that is alive, as pipeline_metadata has it. */
export interface LiveRun extends Texts<'pipeline_name' | 'run_id' | 'start_time'> {
  readonly performance_metrics: Metrics;
}

/** Notes the start of a run. The connection must stay open until `finishRun`: it is how a check knows the run is alive. */
export const startRun = (
  warehouse: Database,
  pipelineName: string,
  runId: string,
  secondsAgo = 0,
  metrics: Metrics = {},
): Promise<void> =>
  perform(warehouse, 'start_run', {
    pipeline_name: pipelineName,
    run_id: runId,
    seconds_ago: secondsAgo,
    performance_metrics: asMetrics(metrics),
  });

/** Notes what a run measured so far, and the session it now has. False where the warehouse does not know the run. */
export const continueRun = (warehouse: Database, runId: string, metrics: Metrics): Promise<boolean> =>
  callForValue(warehouse, 'continue_run', { run_id: runId, performance_metrics: asMetrics(metrics) });

/** Notes the end of a run. */
export const finishRun = (
  warehouse: Database,
  runId: string,
  status: 'succeeded' | 'failed' | 'interrupted',
  metrics: Metrics,
): Promise<void> =>
  perform(warehouse, 'finish_run', { run_id: runId, status, performance_metrics: asMetrics(metrics) });

/** The runs that are alive now, from whatever machine. */
export const liveRuns = (warehouse: Database): Promise<LiveRun[]> => call(warehouse, 'live_runs');
