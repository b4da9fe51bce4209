import { createInterface } from 'node:readline/promises';
import { UsageError } from '../base/errors.js';
import { OUT_OF_REACH, forget, forgetAgain, formatForgetting, formatForgottenAgain } from '../operate/forget.js';
import { defineAnswer, flag, tableOption, text } from './command.js';

/** Asks twice; true where both answers are what they must be. */
async function isMeant(what: string): Promise<boolean> {
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  const answers = async (question: string, wanted: string) => (await lines.question(question)).trim() === wanted;
  process.stderr.write(`What is known of the key goes for good. ${OUT_OF_REACH}\n`);
  const isSure =
    (await answers(what === 'again' ? 'Type "again": ' : 'Which table? ', what)) &&
    (await answers('Nothing brings it back. Type "forget": ', 'forget'));
  lines.close();
  return isSure;
}

export const command = defineAnswer(
  {
    examples: {
      'forget customers 17 --reference GDPR-204': 'Erase one customer, after asking twice',
      'forget seats A 7 --reference T-9 --yes': 'Of a key of two columns, without asking',
      'forget t 1 --reference T-9 --keep-shells': 'Leave its versions and their times',
      'forget --again': 'After a restore: all that was forgotten',
    },
    positionals: {
      table: { ...tableOption, demandOption: false },
      key: { type: 'string', array: true, default: [], describe: 'The key, a value for each of its columns' },
    },
    options: {
      reference: text('The ticket that asks for it, by its name: it is kept'),
      'keep-shells': flag('Leave versions with their times, without values, under a token'),
      again: { ...flag('Forget again what was forgotten'), conflicts: ['reference', 'keep-shells'] },
      yes: flag('Do not ask'),
    },
    epilogue:
      'Versions, kept changes and lines of batch files go, applied and waiting; the chain still proves everything else. Cut off, it is finished ' +
      'by running it again. Erase the row at the source first: what comes from there again is a new life of the key.',
  },
  async ({ table, key, reference, again = false, keepShells = false, yes = false }, settings) => {
    if (again && key.length > 0) throw new UsageError('forget --again takes a table, or none, and no key');
    if (!again && (table === undefined || key.length === 0))
      throw new UsageError('forget takes a table and a key', { hint: 'or --again, after a backup was restored' });
    if (!again && reference === undefined)
      throw new UsageError('forget takes the ticket that asks for it', { hint: 'give its name: --reference' });
    if (!yes && !process.stdin.isTTY)
      throw new UsageError('forget asks before it erases, and nobody can answer', { hint: 'if it is meant: --yes' });
    if (!yes && !(await isMeant(again ? 'again' : (table ?? ''))))
      throw new UsageError('nothing was erased: that was not the answer');
    if (again) {
      const found = await forgetAgain(settings, table === undefined ? undefined : [table]);
      return [found, formatForgottenAgain(found)];
    }
    const done = await forget(settings, table ?? '', key, reference ?? '', keepShells);
    return [done, formatForgetting(table ?? '', done)];
  },
);
