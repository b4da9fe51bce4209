import { logger } from '../../base/logger.js';
import type { Settings } from '../../base/settings.js';
import { takeAction } from '../../warehouse/browse.js';
import { transactionEffects, type Effect, type Warehouse } from '../../warehouse/functions.js';
import { link, markup, table, tableLink, value } from '../html.js';
import { ACTIONS, PageError, columnsOf, given, hidden, textsOf, wholeListing } from '../page.js';
import type { Asked, Listing, Page } from '../page.js';
import { acting } from '../session.js';
import type { Visitor } from '../token.js';

/** So many rows of each kind are shown, and exported. */
const ROWS = 5;
const MORE_ROWS = 1000;

type Act = Readonly<{ settings: Settings; table: string; visitor: Visitor }>;

/** Does what an address, or a form, asks for, in this transaction. @throws PageError where there is nothing to do */
async function take(warehouse: Warehouse, { table: name, visitor }: Act, query: URLSearchParams, reason: string) {
  const [what = '', batch] = [given(query, 'do'), given(query, 'batch')];
  if (!ACTIONS.some((each) => each === what))
    throw new PageError(404, 'there is no such action', `there is ${ACTIONS.join(', ')}`);
  const by = [given(query, 'column'), given(query, 'cause')] as const;
  const { acted_at, outcome } = await takeAction(warehouse, name, what, reason, visitor.who, batch, ...by);
  if (outcome === null)
    throw new PageError(404, `the ledger of ${name} has no batch of that name`, `those it has: /batches?table=${name}`);
  if (acted_at === null)
    throw new PageError(409, `${name}: ${outcome}`, 'nothing was done; /work says what was, by whom');
  return { what, batch, acted_at, outcome };
}

const tried = ({ session, ...asked }: Asked, most: number) =>
  acting(asked.settings, true, session.statements, async ({ warehouse, reader, statements }) => {
    // Whoever pastes it into psql only tries it, too.
    statements.push(`begin;${reader.isOwn ? '' : ` set local role "${reader.role}";`}`);
    const taken = await take(warehouse, asked, asked.query, 'tried');
    const effects = await transactionEffects(warehouse, asked.table, most);
    statements.push('rollback;');
    return { ...taken, reader, effects };
  });

/** What of an effect is shown: values only to who may read them all. */
async function shownOf(asked: Asked): Promise<(keyof Effect)[]> {
  const isAll = (await columnsOf(asked)).values.every(({ is_readable: may }) => may);
  const values = isAll ? (['shown_values', 'reason'] as const) : [];
  return ['effect', 'business_key', ...values, 'valid_from', 'valid_to', 'batch_id', 'change_line'];
}

/** What an action would come to: it is taken, looked at, and rolled back. A form does it, where it comes to the same. */
export async function actPage(asked: Asked): Promise<Page> {
  const { table: name, query, visitor, path } = asked;
  const shown = await shownOf(asked);
  const { what, batch, outcome, effects, reader } = await tried(asked, ROWS);
  const isTold = (column: keyof Effect) => effects.some((effect) => effect[column] !== null);
  const columns = shown.filter((column) => isTold(column) && (column !== 'batch_id' || batch === undefined));
  const body = markup`<h1>${what} ${batch === undefined ? name : value(batch)}?</h1>
<p class="lead">It would come to this: ${outcome}.</p>
${reader.isOwn && markup`<p class="banner">It would be done as <b>${reader.role}</b>, who may do more than this: set CONSOLE_ACTIONS_DB_USER, or make the roles by <code>npx tidemark grants --apply</code>.</p>`}
<form class="moment" method="post" action="${path}">${hidden(query, 'form', 'outcome', 'reason')}
<input type="hidden" name="form" value="${visitor.form}"><input type="hidden" name="outcome" value="${outcome}">
<label>why <input name="reason" size="40" maxlength="500" required autocomplete="off"></label><button class="main">${what}</button>
<a href="${link('/work', { table: name })}">leave it</a></form>
<p class="quiet">Nothing has been done yet. It is done as ${reader.role}, and noted with your reason as done by ${visitor.who}.</p>
${effects.length > 0 && markup`<h2>What would be written <small>the first ${ROWS} of each kind</small></h2>`}
${
  effects.length > 0 &&
  table(
    'What would be written',
    columns.map((column) => column.replaceAll('_', ' ')),
    effects.map((effect) => columns.map((column) => value(String(effect[column] ?? '–')))),
  )
}`;
  return { title: `${what}: ${name}`, body };
}

/** The same rows, and more of each kind. */
export const actList = async (asked: Asked): Promise<Listing> => {
  const shown = await shownOf(asked);
  return wholeListing(shown, async () => textsOf(shown, (await tried(asked, MORE_ROWS)).effects));
};

/** Does what a form asks for, if that comes to what its page said. @returns where to look then @throws PageError where it is not done */
export async function act(asked: Act, fields: URLSearchParams | undefined): Promise<string> {
  const { table: name, visitor } = asked;
  if (fields?.get('form') !== visitor.form)
    throw new PageError(
      403,
      'this form is not one of your session here',
      `nothing was done; begin again: ${tableLink(name)}`,
    );
  const reason = given(fields, 'reason')?.trim() ?? '';
  if (reason === '')
    throw new PageError(400, 'it needs a reason', 'nothing was done; go back, and say why: it is kept');
  const done = await acting(asked.settings, false, [], async ({ warehouse }) => {
    const taken = await take(warehouse, asked, fields, reason);
    if (taken.outcome === fields.get('outcome')) return taken;
    throw new PageError(
      409,
      `by now it would come to this: ${taken.outcome}`,
      'nothing was done: something else has changed the table meanwhile; go back, reload, and look at it again',
    );
  });
  logger.info({ action: done.what, table: name, who: visitor.who }, 'done by hand');
  return link('/work', { table: name, done: done.acted_at });
}
