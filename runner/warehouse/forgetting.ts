import { action, row, value, type Texts } from './call.js';

/** What forgetting a key asks of the warehouse, in its order. */

/** Notes that a key is about to be forgotten. Returns the number of the note. */
export const beginForgetting = value<string, [table: string, key: readonly string[], reference: string]>(
  'begin_forgetting(p_dimension_name => $1, p_key => $2, p_reference => $3)',
);

/** A batch document without a key; undefined where it has nothing of it. */
export const forgetInBatch = row<
  (Texts<'batch_metadata' | 'changes' | 'content_checksum'> & { readonly forgotten_lines: number }) | undefined,
  [table: string, key: readonly string[], token: string, batch: string]
>('forget_in_batch(p_dimension_name => $1, p_key => $2, p_token => $3, p_batch => $4::text::json)');

/** The metadata of a checkpoint with a token in the place of a key; null where they do not name it. */
export const forgetInMetadata = value<
  string | null,
  [table: string, key: readonly string[], token: string, metadata: string]
>('forget_in_metadata(p_dimension_name => $1, p_key => $2, p_token => $3, p_metadata => $4::text::json)');

/** Notes what a batch is to hold from now on. */
export const noteForgottenContent = action<
  [forgetting: string, shard: string, batchId: string, contentChecksum: string, forgottenLines: number]
>(
  'note_forgotten_content(p_forgetting_id => $1, p_shard => $2, p_batch_id => $3, p_content_checksum => $4, p_forgotten_lines => $5)',
);

/** Erases a key from the warehouse, and finishes its forgetting. */
export const forgetKey = row<Forgetting, [forgetting: string, key: readonly string[], token: string]>(
  'forget_key(p_forgetting_id => $1, p_key => $2, p_token => $3)',
);
/** What is noted of a forgetting: counts of rows, and of each batch whose file was written anew the lines that it lacks. */
export type Forgetting = Texts<'forgetting_id' | 'reference' | 'forgotten_by' | 'begun_at' | 'finished_at'> &
  Readonly<
    Record<'versions' | 'absorbed_changes' | 'rejected_changes' | 'retracted_changes' | 'first_values', number>
  > & {
    readonly files: Readonly<Record<string, number>>;
  };
