import { afterAll, beforeAll } from 'vitest';
import { setServer } from './databases.js';
import { prepareServer, startEmbedded } from './global-setup.js';

/** For files that count what a poll reads: on a server that others use too, a transaction that ends meanwhile makes it read more. */
let stop: () => Promise<void>;
beforeAll(async () => {
  const started = await startEmbedded();
  stop = started.stop;
  setServer((await prepareServer(started.address)).server);
});
afterAll(async () => {
  await stop();
});
