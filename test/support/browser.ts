import { existsSync } from 'node:fs';

/** The browser that pages are tried in: Debian's, or the one that CHROMIUM names; undefined where there is none. */
export const CHROMIUM: string | undefined = [
  process.env.CHROMIUM,
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
].find((file) => file !== undefined && existsSync(file));
