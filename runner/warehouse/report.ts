import type { Transaction } from '../base/database.js';
import type { DimensionMapping } from '../batch/mapping.js';
import type { DimensionStatus, Retraction, changeFrequency, lineage, longestHistories } from './functions.js';

/** What a report says of a table. */
export interface TableFacts {
  readonly mapping: DimensionMapping;
  readonly status: DimensionStatus | undefined;
  readonly frequency: Awaited<ReturnType<typeof changeFrequency>>;
  readonly longest: Awaited<ReturnType<typeof longestHistories>>;
  readonly retractions: readonly Retraction[];
}
export type Versions = Awaited<ReturnType<typeof lineage>>;

/** A form that a report is written in; `made` is when, in UTC. */
export interface Rendering {
  readonly ending: 'md' | 'html';
  readonly whole: (made: string, database: string, sections: readonly string[]) => string;
  readonly table: (warehouse: Transaction, facts: TableFacts) => string | Promise<string>;
  readonly key: (warehouse: Transaction, name: string, key: readonly string[], versions: Versions) => Promise<string>;
}
