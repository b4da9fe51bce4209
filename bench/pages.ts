/** What the pages of the console ask of a history that bench.fill_history filled, and how many pages of the server's memory each may touch at most. */
export interface Asked {
  readonly name: string;
  readonly query: string;
  /** However large the history is: the console is to answer at once. */
  readonly buffers: number;
}

const [FIRST, LATER, LAST] = ['2026-02-01 09:00:00.001+00', '2026-02-01 09:01:30+00', '2026-02-02+00'];
/** Between what is known of the first states of all orders, and the others. */
export const HALF_KNOWN = '2026-02-02 12:00+00';

const asOf = (moment: string | null, after: number | null) =>
  `tidemark.as_of_page('orders', ${literal(moment)}, ${key(after)}, '{}', 51)`;
const NONE = '{"order_status": "none"}';
const asKnown = (moment: string, known: string, after: number | null, filters = '{}') =>
  `tidemark.as_known_page('orders', ${literal(moment)}, ${literal(known)}, ${key(after)}, '${filters}', 51)`;
const diff = (from: string, to: string) => `tidemark.diff_page('orders', '${from}', '${to}', null, null, null, 51)`;
const literal = (text: string | null) => (text === null ? 'null' : `'${text}'`);
const key = (number: number | null) => (number === null ? 'null' : `array['${String(number)}']`);

/** @param keys how many orders there are */
export const consolePages = (keys: number): Asked[] => {
  const [middle, last] = [Math.round(keys / 2), keys - 10];
  // A thousandth of a second is a thousand orders.
  const narrow = ['2026-02-01 09:01:00.001+00', '2026-02-01 09:01:00.0015+00'] as const;
  const pages: readonly (readonly [name: string, call: string, buffers: number])[] = [
    ['overview', `tidemark.overview('1 hour', 24, now())`, 200],
    ['table', asOf(null, null), 300],
    ['table, last page', asOf(null, last), 300],
    ['table as of a moment', asOf(LATER, middle), 600],
    ['table as of when few were there, last page', asOf(FIRST, 990), 400],
    ['table as of when none was there', asOf('2026-01-01+00', null), 300],
    ['when it changed', `tidemark.change_histogram('orders', null, '${LAST}', 60)`, 800],
    ['when it changed, closer', `tidemark.change_histogram('orders', '${narrow[0]}', '${narrow[1]}', 60)`, 400],
    ['table as it was known', asKnown(LATER, 'now', middle), 3000],
    ['table as it was half known', asKnown(LATER, HALF_KNOWN, middle), 5000],
    ['table as it was known, when nothing was', asKnown(LATER, '2026-01-01+00', null), 800],
    ['table as it was half known, and no row fits the filter', asKnown(LATER, HALF_KNOWN, middle, NONE), 60_000],
    ['key', `tidemark.key_versions('orders', array['7'], null, null, 101)`, 300],
    ['key as it was half known', `tidemark.key_versions('orders', array['7'], '${HALF_KNOWN}', null, 101)`, 400],
    ['changes of a key that opened no version', `tidemark.key_marks('orders', array['7'], 200)`, 300],
    ['what changed in a moment', diff(...narrow), 1500],
    ['what changed in all, first page', diff(FIRST, LAST), 2500],
    ['what changed in a moment, counted', `tidemark.diff_summary('orders', '${narrow[0]}', '${narrow[1]}')`, 9000],
    ['what changed in all, counted', `tidemark.diff_summary('orders', '${FIRST}', '${LAST}')`, 150_000],
    ['batches', `tidemark.batch_list('orders', null, null, 51)`, 100],
    ['schema', `tidemark.schema_history('orders')`, 100],
    ['work list', `tidemark.work_list(null, 200)`, 100],
  ];
  return pages.map(([name, call, buffers]) => ({ name, query: `select * from ${call}`, buffers }));
};
