import { action, rows, value, type Texts, type TextsOrNull } from './call.js';

/** What an export of a history as files asks of the warehouse. */

/** A column in files: its type in PostgreSQL and in Parquet, and why it is text where no type there holds its values exactly. */
export type ExportColumn = Texts<'column_name' | 'column_type' | 'parquet_type'> &
  TextsOrNull<'text_because'> & { readonly is_left_out: boolean };
export const exportColumns = rows<
  ExportColumn,
  [table: string, oddColumns: readonly string[], leftOut: readonly string[]]
>('export_columns(p_dimension_name => $1, p_odd_columns => $2, p_left_out => $3)');

/** A part of a history: ended versions of a month (2026-02), or those in force (current). Reads the whole history. */
export type ExportPart = Texts<'part' | 'versions' | 'digest' | 'bytes'> & {
  readonly odd_columns: readonly string[];
  readonly most_bytes: number;
};
export const exportParts = rows<ExportPart, [table: string, columns: readonly string[]]>(
  'export_parts(p_dimension_name => $1, p_columns => $2)',
);

/** The query of one part, for COPY. */
export const exportQuery = value<string, [table: string, columns: readonly string[], part: string]>(
  'export_query(p_dimension_name => $1, p_columns => $2, p_part => $3)',
);

/** Where a history is exported to, and since when files there may hold what is forgotten. */
export type ExportNote = Texts<'export_id' | 'dimension_name' | 'host' | 'folder' | 'exported_by'> &
  TextsOrNull<'exported_at' | 'behind_since'>;
export const exportNotes = rows<ExportNote>('export_notes(p_dimension_name => $1)');

/** As an export is named to a person. */
export const placeOfExport = ({ host, folder }: Pick<ExportNote, 'host' | 'folder'>): string => `${host}:${folder}`;

/** Notes that an export begins. */
export const noteExport = action<[id: string, table: string, host: string, folder: string]>(
  'note_export(p_export_id => $1, p_dimension_name => $2, p_host => $3, p_folder => $4)',
);

/** Notes that the files of an export hold a snapshot, and since when it was behind in that. */
export const noteExported = action<[id: string, moment: string, versions: string, behindSince: string | null]>(
  'note_exported(p_export_id => $1, p_exported_at => $2, p_versions => $3, p_behind_since => $4)',
);

/** Notes that an export is no more. */
export const removeExportNote = action<[id: string]>('remove_export(p_export_id => $1)');
