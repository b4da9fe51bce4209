/** What Citus refuses, told from the text of statements: a cluster is not to be had everywhere, and a text that it would refuse is found here. */

export interface Finding {
  readonly form: string;
  readonly text: string;
}

/** From an opening parenthesis (or its place) to where what it opened ends, without it; to the end of a statement where none is open. */
function upToItsEnd(text: string, start: number): string {
  let depth = 0;
  for (let at = start; at < text.length; at++) {
    if (text[at] === '(') depth++;
    if (text[at] === ')' && --depth < 0) return text.slice(start, at);
    if (text[at] === ';' && depth === 0) return text.slice(start, at);
  }
  return text.slice(start);
}

const escaped = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
const shown = (text: string) => text.replace(/\s+/g, ' ').trim().slice(0, 100);
/** Without comments, and without the lines of a template that are there for histories of one server. */
const withoutComments = (text: string) => text.replace(/--.*$|^\{local\}.*$/gm, '');

/** Where statements name a table as one that they read or write, and what follows there in the same query. Casts to its type are none. */
function placesOf(text: string, relation: string): string[] {
  const named = new RegExp(`(?<!::|insert into )${escaped(relation)}(?= as )`, 'g');
  return [...text.matchAll(named)].map(({ index }) => upToItsEnd(text, index));
}

/** Queries over the history of a function that runs on a node which hold rows of it by something else than its key: they would see one shard. */
export function withoutTheKey(given: string, relation: string, column: string): Finding[] {
  const text = withoutComments(given);
  return placesOf(text, relation)
    .filter((query) => !query.includes(`h.${column} = c.${column}`))
    .map((query) => ({ form: 'a statement over a shard that does not join on the key', text: shown(query) }));
}

/** Of each place where something is opened, like "exists (", what stands in it. */
const opened = (text: string, by: RegExp) =>
  [...text.matchAll(by)].map((found) => upToItsEnd(text, found.index + found[0].length));

/** Forms over a distributed table that Citus 13 does not plan, in a text that the coordinator runs. `relation` is how the text names it. */
export function refusedForms(given: string, relation: string): Finding[] {
  const text = withoutComments(given);
  const reads = (query: string) => new RegExp(`\\b(from|join|using)\\s+${escaped(relation)}(?![\\w}])`).test(query);
  const found = (form: string, texts: readonly string[]): Finding[] =>
    texts.map((each) => ({ form, text: shown(each) }));
  return [
    ...found('a lateral subquery over it', opened(text, /\blateral\s*\(/g).filter(reads)),
    ...found(
      'a subquery over it that another query is correlated with',
      opened(text, /\bexists\s*\(/g).filter((query) => reads(query) && /\{same_|\bc\.|\{joined_/.test(query)),
    ),
    ...found(
      'a subquery without columns',
      text.match(new RegExp(`\\bselect\\s+from\\s+${escaped(relation)}`, 'g')) ?? [],
    ),
    ...found('a system column', text.match(/\bh\.(xmin|xmax|ctid|cmin|cmax)\b/g) ?? []),
    ...found(
      'rows that are locked',
      placesOf(text, relation).filter((query) => /\bfor (no key )?(update|share)\b/.test(query)),
    ),
  ];
}

/** A function in SQL whose arguments stand in a query over it is not planned, whatever the query. */
export const refusedLanguage = (definition: string, relation: string): Finding[] =>
  /\blanguage sql\b/i.test(definition) && definition.includes(relation)
    ? [{ form: 'a function in SQL over it', text: shown(definition) }]
    : [];
