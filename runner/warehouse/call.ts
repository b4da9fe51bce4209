import type { Database, Transaction } from '../base/database.js';

export type Warehouse = Database | Transaction;

/** Columns that come as text, as bigint, numeric and moments do. */
export type Texts<C extends string> = Readonly<Record<C, string>>;
/** The same of columns that may be null. */
export type TextsOrNull<C extends string> = Readonly<Record<C, string | null>>;

/** What asks a warehouse, given the parameters in their order; undefined is null. */
type Ask<G extends unknown[], R> = (warehouse: Warehouse, ...given: G) => Promise<R>;

/**
 * Calls a function of schema tidemark that returns rows; bigint and numeric come as text. This and its like below are the one place that does;
 * what there is to call, functions.ts says.
 * @param call the call without the schema. What "::text::json" stands behind is sent as JSON text: the driver would encode it once more
 */
export function rows<Row extends object, G extends unknown[] = [table: string]>(call: string): Ask<G, Row[]> {
  const places = [...new Set(call.match(/\$\d(::text::json)?/g))].sort();
  const sent = (value: unknown, place: string) =>
    typeof value === 'object' && place.endsWith('json') ? JSON.stringify(value) : (value ?? null);
  return async (warehouse, ...given) => {
    const values = places.map((place, index) => sent(given[index], place)) as string[];
    return warehouse.unsafe<Row[]>(`select * from tidemark.${call}`, values, { prepare: true });
  };
}

/** One that returns one row. */
export function row<Row extends object | undefined, G extends unknown[] = [table: string]>(call: string): Ask<G, Row> {
  const ask = rows<object, G>(call);
  return async (...given) => (await ask(...given))[0] as Row;
}

/** One that returns one value. */
export function value<T, G extends unknown[] = [table: string]>(call: string): Ask<G, T> {
  const ask = row<object, G>(call);
  return async (...given) => Object.values(await ask(...given))[0] as T;
}

/** One that returns nothing. */
export function action<G extends unknown[] = [table: string]>(call: string): Ask<G, void> {
  const ask = rows<object, G>(call);
  return async (...given) => {
    await ask(...given);
  };
}
