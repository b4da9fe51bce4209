import * as z from 'zod';

/** The file of a batch as text. Values of rows are not among what is read here: those stay text. */

/** What the loader needs of any document, the original's minimal one included. */
export const documentHeadSchema = z.object({
  batch_id: z.string().min(1),
  table: z.string().optional(),
  shard: z.string().nullish(),
  sequence: z.number().int().min(1).nullish(),
  previous_batch_id: z.string().nullish(),
  previous_checksum: z.string().nullish(),
  checksum: z.string().nullish(),
  extracted_at: z.string().nullish(),
  change_count: z.number().int().min(0),
  /** Where a key was forgotten: the checksum of the lines that are left, and the numbers of those that are gone. */
  content_checksum: z.string().nullish(),
  forgotten_lines: z.array(z.number()).default([]),
});
export type DocumentHead = z.infer<typeof documentHeadSchema>;

/** How a batch file that Tidemark wrote begins, goes over from metadata to change lines, and ends. */
export const FRAME = { begin: '{\n"batch_metadata": ', middle: ',\n"changes": [\n', end: '\n]}\n' } as const;

/** The two members of a document, as JSON. */
export type Members = Readonly<Record<'metadata' | 'changes', string>>;

/** The texts of the two members of a document in Tidemark's own frame; undefined for any other. That they are JSON, who reads them finds out. */
export function documentParts(text: string): Members | undefined {
  const middle = text.indexOf(FRAME.middle);
  if (!text.startsWith(FRAME.begin) || middle < 0 || !text.endsWith(FRAME.end)) return undefined;
  return {
    metadata: text.slice(FRAME.begin.length, middle),
    changes: text.slice(middle + FRAME.middle.length - '[\n'.length, -'}\n'.length),
  };
}
