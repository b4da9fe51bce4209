/** The fenced blocks of the pages for users, and how what they print is compared with what they show. */

export interface Block {
  readonly page: string;
  readonly line: number;
  /** What the fence says: bash, console, sql, text, ... */
  readonly language: string;
  /** What follows: "not-run: needs Docker", "on the source". */
  readonly note: string;
  readonly body: string;
}

export function blocksOf(page: string, text: string): Block[] {
  return [...text.matchAll(/^```(\w*)(?: ([^\n]*))?\n([\s\S]*?)^```$/gm)].map(
    ({ index, 1: language = '', 2: note = '', 3: body = '' }) => ({
      page,
      line: text.slice(0, index).split('\n').length,
      language,
      note,
      body,
    }),
  );
}

/** The commands of a console block, each with the lines that are shown below it. */
export function commandsOf({ body }: Block): { command: string; shown: string }[] {
  return body
    .split(/^\$ /m)
    .slice(1)
    .map((part) => {
      const [command = '', ...shown] = part.split('\n');
      return { command, shown: shown.join('\n') };
    });
}

/** What differs from run to run has one form: times, batches, processes, ports, durations, sizes of columns. */
export function masked(text: string): string {
  return text
    .replace(/changes_\d{8}_\d{6}_\d{3}\w*/g, 'changes_*')
    .replace(/\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)?/g, (time) =>
      time.startsWith('2026-02-01') ? time : '<time>',
    )
    .replace(/\bprocess \d+/g, 'process *')
    .replace(/\b\d+(\.\d+)? (milli)?seconds/g, '* seconds')
    .replace(/-[-+]{2,}-/g, '--')
    .replace(/\b(5433|5434|[1-6]\d{4})\b/g, '<port>')
    .split('\n')
    .map((line) => line.replace(/[ |]+/g, ' ').trim())
    .filter((line) => line !== '')
    .join('\n');
}

/** Whether what was printed is what is shown; a line of three dots stands for any lines. */
export function isShown(shown: string, printed: string): boolean {
  const parts = masked(shown).split(/^\.\.\.$/m);
  const pattern = parts.map((part) => part.trim().replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('[\\s\\S]*');
  return new RegExp(`^${pattern}$`).test(masked(printed).trim());
}
