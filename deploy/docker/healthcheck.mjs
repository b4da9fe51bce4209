// Whether the container's process is well: "serve" by its /healthz, the others by being neither stopped nor a zombie.
// One that runs but no longer gets anywhere is the business of the alerts "No Recent Batch" and "Processing Backlog".
import { readFileSync } from 'node:fs';

const isServer = readFileSync('/proc/1/cmdline', 'utf8').split('\0').includes('serve');

async function isWell() {
  if (isServer) return (await fetch(`http://127.0.0.1:${process.env.METRICS_PORT ?? '9464'}/healthz`)).ok;
  const state = /^State:\s+(\w)/m.exec(readFileSync('/proc/1/status', 'utf8'))?.[1];
  return state !== undefined && !'TtZX'.includes(state);
}

process.exitCode = (await isWell().catch(() => false)) ? 0 : 1;
