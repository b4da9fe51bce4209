import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { formatTable } from '../../runner/base/text-table.js';
import { PROPERTIES, TABLES, registerTables, tryProperty, type Subject } from '../support/properties.js';
import { compile } from '../support/batches.js';
import { createWarehouseDatabase } from '../support/databases.js';
import { KNOWN_PROPERTIES, tryKnown } from '../support/known.js';
import { RETRACTIONS, tryRetraction } from '../support/retractions.js';
import { KNOWN_MUTATIONS, MUTATIONS, RETRACTION_MUTATIONS, type Mutation } from './mutations.js';

/** Breaks the SQL one rule at a time, in a database of its own, and sees a property go red for each. A mutation that lives is a rule without a test. */

const SEED = Number(process.env.TEST_SEED ?? 20260201);
const RUNS = Number(process.env.PROPERTY_RUNS ?? 50);
const report: (readonly [rule: string, file: string, order: string, property: string])[] = [];

type Try = (subject: Subject) => Promise<number>;
const parameters = { seed: SEED, runs: RUNS, endOnFailure: true };
const HISTORY = PROPERTIES.map(
  (one) => [one.name, (subject: Subject) => tryProperty(one, subject, parameters)] as const,
);
const KNOWN = KNOWN_PROPERTIES.map(
  (one) => [one.name, (subject: Subject) => tryKnown(one, subject, parameters)] as const,
);
const RETRACTED = RETRACTIONS.map(
  (one) => [one.name, (subject: Subject) => tryRetraction(one, subject, parameters)] as const,
);

/** The first property that does not hold, and in which order of changes; undefined where all hold. */
async function firstBroken(
  subjects: readonly Subject[],
  properties: readonly (readonly [name: string, holds: Try])[],
): Promise<{ property: string; order: string } | undefined> {
  for (const [property, holds] of properties)
    for (const subject of subjects) {
      const isHeld = await holds(subject).then(
        () => true,
        () => false,
      );
      if (!isHeld) return { property, order: subject.order };
    }
  return undefined;
}

async function withSubjects<T>(
  mutation: Mutation | undefined,
  work: (subjects: readonly Subject[]) => Promise<T>,
): Promise<T> {
  const { sql, settings, drop } = await createWarehouseDatabase();
  try {
    await registerTables(sql);
    if (mutation !== undefined) {
      await sql.unsafe(await mutated(mutation));
      for (const { table } of TABLES) await compile(sql, table);
    }
    return await work(TABLES.map((table) => ({ sql, settings, ...table })));
  } finally {
    await drop();
  }
}

/** The definition of a function, broken. */
async function mutated({ name, edits }: Mutation): Promise<string> {
  const folder = path.join(PROJECT_ROOT, 'sql', 'functions');
  const files = (await readdir(folder, { recursive: true })).filter((file) => file.endsWith('.sql'));
  const texts = await Promise.all(files.map((file) => readFile(path.join(folder, file), 'utf8')));
  let [text = ''] = texts
    .flatMap((all) => all.split(/^(?=create or replace )/m))
    .filter((definition) => definition.startsWith(`create or replace function tidemark.${name}(`));
  for (const [from, to] of edits) {
    expect(text, `what is to be broken must be there: ${from}`).toContain(from);
    text = text.replaceAll(from, to);
  }
  return text;
}

afterAll(() => {
  process.stdout.write(`\n${formatTable(['rule', 'broken in', 'order', 'property that went red'], report)}\n`);
});

test('unbroken, every property holds', () =>
  withSubjects(undefined, async (subjects) => {
    expect(await firstBroken(subjects, [...HISTORY, ...KNOWN, ...RETRACTED])).toBeUndefined();
  }));

test.each([
  ...MUTATIONS.map((mutation) => [mutation.rule, mutation, HISTORY] as const),
  ...KNOWN_MUTATIONS.map((mutation) => [mutation.rule, mutation, KNOWN] as const),
  ...RETRACTION_MUTATIONS.map((mutation) => [mutation.rule, mutation, RETRACTED] as const),
])('broken, it is noticed: %s', (rule, mutation, properties) =>
  withSubjects(mutation, async (subjects) => {
    const broken = await firstBroken(subjects, properties);
    report.push([rule, mutation.name, broken?.order ?? '-', broken?.property ?? 'NONE: it lives']);
    process.stderr.write(`${broken === undefined ? 'lives' : 'noticed'}: ${rule}\n`);
    expect(broken).toBeDefined();
  }),
);
