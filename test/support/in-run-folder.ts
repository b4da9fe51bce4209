import { inject } from 'vitest';
import { setLogLevel } from '../../runner/base/logger.js';

/** Temporary folders that a test makes, or a command that it runs, are in the folder of the run and end with it. */
process.env.TMPDIR = inject('runFolder');

// What the commands' code says of its progress, hundreds of times, would hide what the run says of its own.
setLogLevel('WARNING');
