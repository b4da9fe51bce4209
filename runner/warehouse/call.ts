import type { Database, Transaction } from '../base/database.js';

export type Warehouse = Database | Transaction;

/** An argument that is not the value alone: `read` makes SQL of its place, as "$3". */
interface Expression {
  readonly value: string | number | null | readonly string[];
  readonly read: (place: string) => string;
}

/** Columns that come as text, as bigint, numeric and moments do. */
export type Texts<C extends string> = Readonly<Record<C, string>>;

type Argument = string | number | boolean | null | readonly string[] | Expression;

/** A document, which travels as text: what is sent to a json parameter the driver would encode once more. */
export const asJson = (text: string, type: 'json' | 'jsonb' = 'json'): Expression => ({
  value: text,
  read: (place) => `${place}::text::${type}`,
});

/** The instant so many days ago by the clock of the warehouse, null where no number is given. */
export const daysAgo = (days?: number): Expression => ({
  value: days ?? null,
  read: (place) => `clock_timestamp() - make_interval(days => ${place}::integer)`,
});

/**
 * Calls a function of schema tidemark. This is the one place that does; what there is to call, this folder says.
 * @param given its arguments by their names without "p_"
 * @returns its rows; bigint and numeric as text
 */
export async function call<T extends object>(
  warehouse: Warehouse,
  name: string,
  given: Readonly<Record<string, Argument>> = {},
): Promise<T[]> {
  const isExpression = (argument: Argument): argument is Expression =>
    typeof argument === 'object' && argument !== null && 'read' in argument;
  const entries = Object.entries(given);
  const named = entries.map(([argument, value], index) => {
    const place = `$${String(index + 1)}`;
    return `p_${argument} => ${isExpression(value) ? value.read(place) : place}`;
  });
  const values = entries.map(([, value]) => (isExpression(value) ? value.value : (value as string)));
  return warehouse.unsafe<T[]>(`select * from tidemark.${name}(${named.join(', ')})`, values, { prepare: true });
}

/** Calls a function that returns nothing. */
export async function perform(...of: Parameters<typeof call>): Promise<void> {
  await call(...of);
}

/** Calls a function that returns one row. */
export async function callForRow<T extends object>(...of: Parameters<typeof call>): Promise<T> {
  const [row] = (await call(...of)) as [T];
  return row;
}

/** Calls a function that returns one value. */
export async function callForValue<T>(...of: Parameters<typeof call>): Promise<T> {
  const [value] = Object.values(await callForRow(...of)) as [T];
  return value;
}
