import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { PROJECT_ROOT } from '../runner/base/settings.js';
import { PLOTS, documented } from './document.js';

await mkdir(path.join(PROJECT_ROOT, PLOTS), { recursive: true });
for (const [name, text] of documented()) await writeFile(path.join(PROJECT_ROOT, name), text);
