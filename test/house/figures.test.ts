import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { documented } from '../../bench/document.js';
import { ideaOf, type Figure } from '../../bench/figures.js';
import { PROJECT_ROOT } from '../../runner/base/settings.js';

test('the figures of README and docs are what the runs of bench/results come to (npm run bench:docs)', () => {
  const all = [...documented()];
  const differing = all.filter(([name, text]) => readFileSync(path.join(PROJECT_ROOT, name), 'utf8') !== text);
  expect(all.length).toBeGreaterThan(2);
  expect(differing.map(([name]) => name)).toEqual([]);
});

test('no figure of the page of performance, nor of what README says of costs, was typed', () => {
  const read = (name: string) => readFileSync(path.join(PROJECT_ROOT, name), 'utf8');
  const [, costs = ''] = /^## What it costs\n([\s\S]*?)^## /m.exec(read('README.md')) ?? [];
  const written = /<!-- figures: [\s\S]*?<!-- end of figures -->|`[^`\n]*`/g;
  const typed = [read('docs/performance.md'), costs].flatMap(
    (text) => text.replace(written, '').match(/^.*\d.*$/gm) ?? [],
  );
  expect(costs).toContain('<!-- figures: in short -->');
  expect(typed).toEqual([]);
});

test('each row that was recorded with a target names what to try where it is missed', () => {
  const results = path.join(PROJECT_ROOT, 'bench', 'results');
  const figures = readdirSync(results).flatMap((name) => {
    const { figures: found = [] } = JSON.parse(readFileSync(path.join(results, name), 'utf8')) as {
      figures?: Figure[];
    };
    return found.filter(({ target }) => target !== undefined);
  });
  expect(figures.length).toBeGreaterThan(10);
  expect(figures.filter((each) => ideaOf(each) === undefined)).toEqual([]);
});
