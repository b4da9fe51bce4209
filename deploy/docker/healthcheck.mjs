// Whether the container's process is well: "serve" by its /healthz, "console" by what it gives without a token, the others by being neither
// stopped nor a zombie.
// One that runs but no longer gets anywhere is the business of the alerts "No Recent Batch" and "Processing Backlog".
import { readFileSync } from 'node:fs';

const SERVED = {
  serve: `${process.env.METRICS_PORT ?? '9464'}/healthz`,
  console: `${process.env.CONSOLE_PORT ?? '9465'}/console.css`,
};
const address = readFileSync('/proc/1/cmdline', 'utf8')
  .split('\0')
  .map((word) => SERVED[word])
  .find((served) => served !== undefined);

async function isWell() {
  if (address !== undefined) return (await fetch(`http://127.0.0.1:${address}`)).ok;
  const state = /^State:\s+(\w)/m.exec(readFileSync('/proc/1/status', 'utf8'))?.[1];
  return state !== undefined && !'TtZX'.includes(state);
}

process.exitCode = (await isWell().catch(() => false)) ? 0 : 1;
