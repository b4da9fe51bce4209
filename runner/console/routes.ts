import type { Asked, Listing, Page } from './page.js';
import { actList, actPage } from './pages/act.js';
import { batchesList, batchesPage, lineList, linePage, schemaList, schemaPage } from './pages/batches.js';
import { diffList, diffPageOf } from './pages/diff.js';
import { findRedirect, keyList, keyPage } from './pages/key.js';
import { overviewList, overviewPage } from './pages/overview.js';
import { tableList, tablePage, tableRedirect } from './pages/table.js';
import { workListing, workPage } from './pages/work.js';

export interface Route {
  readonly name: string;
  readonly page: (asked: Asked) => Promise<Page>;
  readonly list: (asked: Asked) => Promise<Listing> | Listing;
  /** Where else it leads, if anywhere. */
  readonly redirect?: (asked: Asked) => string | undefined | Promise<string | undefined>;
}

const overview: Route = { name: '/', page: overviewPage, list: overviewList };

/** Pages of the whole, by their path. */
const ROUTES: Readonly<Record<string, Route>> = {
  '/': overview,
  '/batches': { name: '/batches', page: batchesPage, list: batchesList },
  '/work': { name: '/work', page: workPage, list: workListing },
  '/find': { ...overview, name: '/find', redirect: findRedirect },
};

/** Pages of a table, by what follows its name. */
const OF_TABLE: Readonly<Record<string, Route>> = {
  '': { name: '/t/…', page: tablePage, list: tableList, redirect: tableRedirect },
  '/diff': { name: '/t/…/diff', page: diffPageOf, list: diffList },
  '/schema': { name: '/t/…/schema', page: schemaPage, list: schemaList },
  '/line': { name: '/t/…/line', page: linePage, list: lineList },
  '/key': { name: '/t/…/key', page: keyPage, list: keyList },
};

/** What leads to an action, where the console may act. */
const ACT: Route = { name: '/t/…/act', page: actPage, list: actList };

/** Every route that reads, and an example of its path for a table. */
export const paths = (table: string): string[] => [
  ...Object.keys(ROUTES),
  ...Object.keys(OF_TABLE).map((page) => `/t/${table}${page}`),
];

/** The page of a path, and the table that it names; a name is one of the warehouse only once somebody has looked. */
export function routeOf(path: string, mayAct: boolean): { readonly route: Route; readonly table: string } | undefined {
  const [, table = '', page = ''] = /^\/t\/([A-Za-z_]\w*)(\/\w+)?$/.exec(path) ?? [];
  const route = table === '' ? ROUTES[path] : mayAct && page === '/act' ? ACT : OF_TABLE[page];
  return route === undefined || !(path in ROUTES || table !== '') ? undefined : { route, table };
}
