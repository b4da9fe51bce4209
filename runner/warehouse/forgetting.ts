import { action, row, rows, value, type Texts } from './call.js';

/** What forgetting keys asks of the warehouse, in its order. What has begun is known by the numbers of its notes, all of one table. */

/** Notes that a key is about to be forgotten. Returns the number of the note. */
export const beginForgetting = value<
  string,
  [table: string, key: readonly string[], reference: string, keepShells: boolean]
>('begin_forgetting(p_dimension_name => $1, p_key => $2, p_reference => $3, p_keep_shells => $4)');

/** Every forgetting of a table, with those that only the notes beside its change log know. */
export const recallForgettings = rows<Forgetting, [table: string, noted: string]>(
  'recall_forgettings(p_dimension_name => $1, p_noted => $2::text::json)',
);

/** What is to be kept beside the change log of a table; and which of what is there another warehouse noted. */
export const forgettingNotes = row<
  { readonly notes: string; readonly unknown: readonly string[] },
  [table: string, noted: string]
>('forgetting_notes(p_dimension_name => $1, p_noted => $2::text::json)');

/** Tickets of which keys are still to be forgotten, given the notes beside the change log; known ones were cut off, or are under way. */
export const openForgettings = rows<
  { readonly reference: string; readonly is_known: boolean },
  [table: string, noted: string]
>('open_forgettings(p_dimension_name => $1, p_noted => $2::text::json)');

/** A batch document without forgotten keys; undefined where it has nothing of them. */
export const forgetInBatch = row<
  | (Texts<'batch_metadata' | 'changes' | 'content_checksum'> & {
      readonly forgotten_lines: number;
      readonly forgetting_ids: readonly string[];
      readonly captured_until: string | null;
    })
  | undefined,
  [forgettings: readonly string[], batch: string]
>('forget_in_batch(p_forgetting_ids => $1, p_batch => $2::text::json)');

/** The metadata of a checkpoint with a token in the place of a forgotten key; null where they name none. */
export const forgetInMetadata = value<string | null, [forgettings: readonly string[], metadata: string]>(
  'forget_in_metadata(p_forgetting_ids => $1, p_metadata => $2::text::json)',
);

/** Notes what a batch is to hold from now on. */
export const noteForgottenContent = action<
  [
    table: string,
    forgettings: readonly string[],
    shard: string,
    batchId: string,
    contentChecksum: string,
    forgottenLines: number,
  ]
>(
  'note_forgotten_content(p_dimension_name => $1, p_forgetting_ids => $2, p_shard => $3, p_batch_id => $4, p_content_checksum => $5, ' +
    'p_forgotten_lines => $6)',
);

/** Notes up to when changes had been captured when keys were forgotten: the latest of these moments, and of the ledger. */
export const noteCapturedUntil = action<[forgettings: readonly string[], captured: readonly string[]]>(
  'note_captured_until(p_forgetting_ids => $1, p_captured => $2)',
);

/** Erases forgotten keys from the warehouse, and finishes their forgettings. */
export const forgetKeys = rows<Forgetting, [forgettings: readonly string[], key: readonly string[] | undefined]>(
  'forget_keys(p_forgetting_ids => $1, p_key => $2)',
);
/** What is noted of a forgetting: counts of rows, and of each batch whose file was written anew the lines that it lacks. */
export type Forgetting = Texts<'forgetting_id' | 'reference' | 'forgotten_by' | 'begun_at' | 'finished_at'> &
  Readonly<
    Record<'versions' | 'absorbed_changes' | 'rejected_changes' | 'retracted_changes' | 'first_values', number>
  > & {
    readonly files: Readonly<Record<string, number>>;
    readonly keeps_shells: boolean;
  };
