import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { documented } from '../../bench/document.js';
import { PROJECT_ROOT } from '../../runner/base/settings.js';

test('the figures of README and docs are what the runs of bench/results come to (npm run bench:docs)', () => {
  const all = [...documented()];
  const differing = all.filter(([name, text]) => readFileSync(path.join(PROJECT_ROOT, name), 'utf8') !== text);
  expect(all.length).toBeGreaterThan(2);
  expect(differing.map(([name]) => name)).toEqual([]);
});
