import { DuckDBInstance } from '@duckdb/node-api';

/** DuckDB as a reader of files. */
export interface DuckDb {
  readonly run: (statements: string) => Promise<unknown>;
  /** The rows of the last statement, as text. */
  readonly rows: (statements: string) => Promise<Record<string, string | null>[]>;
  readonly close: () => void;
}

export async function openDuckDb(): Promise<DuckDb> {
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
  const connection = await instance.connect();
  const rows = async (statements: string): Promise<Record<string, string | null>[]> => {
    const [last = '', ...before] = statements.trim().replace(/;$/, '').split(/;\n/).reverse();
    await connection.run(before.reverse().join(';\n'));
    const result = await connection.runAndReadAll(`select columns(*)::varchar from (${last})`);
    return result.getRowObjects() as Record<string, string | null>[];
  };
  const close = () => {
    connection.closeSync();
    instance.closeSync();
  };
  return { run: (statements: string) => connection.run(statements), rows, close };
}
