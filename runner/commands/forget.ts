import { createInterface } from 'node:readline/promises';
import { UsageError } from '../base/errors.js';
import { loadSettings } from '../base/settings.js';
import { OUT_OF_REACH, forget, formatForgetting } from '../operate/forget.js';
import { defineCommand, flag, tableOption, text } from './command.js';

/** Asks twice; true where both answers are what they must be. */
async function isMeant(table: string): Promise<boolean> {
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  const answers = async (question: string, wanted: string) => (await lines.question(question)).trim() === wanted;
  process.stderr.write(`What is known of the key goes for good. ${OUT_OF_REACH}\n`);
  const isSure =
    (await answers('Which table? ', table)) && (await answers('Nothing brings it back. Type "forget": ', 'forget'));
  lines.close();
  return isSure;
}

export const command = defineCommand(
  {
    examples: {
      'forget customers 17 --reference GDPR-204': 'Erase one customer, after asking twice',
      'forget seats A 7 --reference T-9 --yes': 'Of a key of two columns, without asking',
      'forget customers 17 --reference T-9 --keep-shells': 'Leave its versions, with their times alone',
    },
    positionals: {
      table: tableOption,
      key: { type: 'string', array: true, demandOption: true, describe: 'The key, a value for each of its columns' },
    },
    options: {
      reference: { ...text('The ticket that asks for it, by its name: it is kept'), demandOption: true },
      'keep-shells': flag('Leave versions with their times, without values, under a token'),
      yes: flag('Do not ask'),
    },
    epilogue:
      'Versions, kept changes and lines of batch files go, applied and waiting; the chain still proves everything else. Cut off, it is finished ' +
      'by running it again. Erase the row at the source first: what comes from there again is a new life of the key.',
  },
  async ({ table, key, reference, keepShells = false, yes = false }, print) => {
    const settings = loadSettings();
    if (!yes && !process.stdin.isTTY)
      throw new UsageError('forget asks before it erases, and nobody can answer', { hint: 'if it is meant: --yes' });
    if (!yes && !(await isMeant(table))) throw new UsageError('nothing was erased: that was not the answer');
    const done = await forget(settings, table, key, reference, keepShells);
    print(done, formatForgetting(table, done));
  },
);
