import path from 'node:path';
import { ensurePrivateFolder, readPrivateFile, replaceFile } from '../base/durable-file.js';
import { dimensionMappingSchema, type DimensionMapping } from '../batch/mapping.js';

const MAPPINGS = 'dimensions.json';

/** Keeps a copy of the registered mappings beside the change log, so that extraction goes on while the warehouse is away. */
export async function rememberMappings(root: string, mappings: readonly DimensionMapping[]): Promise<void> {
  await ensurePrivateFolder(root);
  const content = `${JSON.stringify(mappings, null, 2)}\n`;
  if ((await readPrivateFile(path.join(root, MAPPINGS)).catch(() => '')) === content) return;
  await replaceFile(root, MAPPINGS, content);
}

/** The mappings as they were when the warehouse last answered; undefined where it never did. */
export async function rememberedMappings(root: string): Promise<DimensionMapping[] | undefined> {
  try {
    return dimensionMappingSchema.array().parse(JSON.parse(await readPrivateFile(path.join(root, MAPPINGS))));
  } catch {
    return undefined;
  }
}
