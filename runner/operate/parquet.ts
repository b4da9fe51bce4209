import { unlink } from 'node:fs/promises';
import type * as DuckDB from '@duckdb/node-api';
import { UsageError, hasCode, tolerateGone } from '../base/errors.js';
import { quoteText, quoted } from '../base/sql-text.js';
import type { ExportColumn } from '../warehouse/exports.js';

/** Files of Parquet, written by DuckDB. It reads what COPY prints as CSV, with every value that is not null in quotes, and casts the texts. */

const WRITER = '@duckdb/node-api@1.5.6-r.1';
const MIB = 1024 * 1024;
/** What it may hold at a time, in bytes, where no row is large. */
const MEMORY = 384 * MIB;
const ROW_GROUP = 24 * MIB;
const LEAST_BUFFER = 8 * MIB;

/** DuckDB is needed by those alone who export. */
async function library(): Promise<typeof DuckDB> {
  try {
    return await import('@duckdb/node-api');
  } catch (error) {
    if (!hasCode(error, 'ERR_MODULE_NOT_FOUND', 'MODULE_NOT_FOUND')) throw error;
    throw new UsageError('the writer of Parquet is not installed', { hint: `npm install ${WRITER}`, cause: error });
  }
}

export interface ParquetWriter {
  /**
   * Makes a file of Parquet from one of CSV.
   * @param mostBytes of the largest row as text
   * @returns how many rows it has
   */
  readonly write: (csv: string, file: string, columns: readonly ExportColumn[], mostBytes: number) => Promise<number>;
  readonly close: () => void;
}

/**
 * @param spill a file or folder that is not there yet, for what does not fit into memory
 * @throws UsageError with the command that installs it, where it is not there
 */
export async function openParquetWriter(spill: string): Promise<ParquetWriter> {
  const { DuckDBInstance } = await library();
  const instance = await DuckDBInstance.create(':memory:', {
    threads: '1',
    memory_limit: `${MEMORY / MIB}MiB`,
    temp_directory: spill,
    // What is written in threads of its own would be in any order: of one, it is as it was read.
    preserve_insertion_order: 'false',
    autoinstall_known_extensions: 'false',
    autoload_known_extensions: 'false',
  });
  const connection = await instance.connect();
  return {
    write: async (csv, file, columns, mostBytes) => {
      // Quotes are doubled, and every value has two.
      const line = 2 * mostBytes + 3 * columns.length + 2;
      const buffer = Math.max(LEAST_BUFFER, 2 * line);
      const memory = Math.max(MEMORY, 8 * buffer);
      await connection.run(`set memory_limit = '${memory}B'; set TimeZone = 'UTC'`);
      const result = await connection
        .runAndReadAll(copyStatement(csv, file, columns, line, buffer))
        .catch(async (error: unknown) => {
          await unlink(file).catch(tolerateGone);
          throw error;
        });
      return Number(result.getRows()[0]?.[0]);
    },
    close: () => {
      connection.closeSync();
      instance.closeSync();
    },
  };
}

function copyStatement(csv: string, file: string, columns: readonly ExportColumn[], line: number, buffer: number) {
  const given = columns.map((_, index) => `'c${index}': 'VARCHAR'`).join(', ');
  const cast = columns.map(({ column_name, parquet_type }, index) => {
    const text = `c${index}`;
    const value =
      parquet_type === 'VARCHAR'
        ? text
        : parquet_type === 'BLOB'
          ? `unhex(substr(${text}, 3))`
          : `${text}::${parquet_type}`;
    return `${value} as ${quoted(column_name)}`;
  });
  return `
    copy (
      select ${cast.join(', ')}
      from read_csv(
        ${quoteText(csv)}, columns = {${given}}, auto_detect = false, header = false, delim = ',', quote = '"', escape = '"',
        new_line = '\\n', nullstr = '', allow_quoted_nulls = false, parallel = false,
        max_line_size = ${line}, buffer_size = ${buffer}
      )
    ) to ${quoteText(file)} (format parquet, compression zstd, row_group_size_bytes ${ROW_GROUP})`;
}
