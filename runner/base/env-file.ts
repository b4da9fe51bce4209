import { existsSync } from 'node:fs';
import path from 'node:path';
import dotenv from 'dotenv';
import { UsageError } from './errors.js';
import { readNamedFile } from './named-file.js';

/** Settings by name. */
export type Named = Readonly<Record<string, string | undefined>>;

/** The shorter names the original pipeline also took. */
export const ALIASES: Readonly<Record<string, string>> = {
  MUTATION_INTERVAL: 'MUTATION_INTERVAL_SECONDS',
  CDC_INTERVAL: 'CDC_EXTRACTION_INTERVAL_SECONDS',
};

/** The file of settings that ENV_FILE names, else .env of the project. */
export const envFilePath = (folder: string, { ENV_FILE: name }: Named = process.env): string =>
  path.resolve(folder, name === undefined || name === '' ? '.env' : name);

/** What the file of settings says: the one that ENV_FILE names, else .env, which need not exist. */
export function readEnvFile(environment: Named, folder: string): Record<string, string> {
  const file = envFilePath(folder, environment);
  if ((environment.ENV_FILE ?? '') === '' && !existsSync(file)) return {};
  const hint =
    'give ENV_FILE a path relative to the project folder, or copy .env.example to it (without ENV_FILE it is .env)';
  const text = readNamedFile('the file of settings that ENV_FILE names', file, Infinity, hint);
  assertWhole(text, file);
  return dotenv.parse(text);
}

/** As dotenv has them: a name, and behind it "=" or ": ". */
const NAMED = String.raw`^[^\S\n]*(?:export[^\S\n]+)?([\w.-]+)(?:[^\S\n]*=|:(?=\s))`;
const ASSIGNMENT = new RegExp(`${NAMED}(.*)$`);
/** An assignment of a quoted value, which may go over several lines; where more than a comment follows, dotenv takes the quotes for a part of it. */
const QUOTED = new RegExp(`${NAMED}[^\\S\\n]*(['"\`])(?:\\\\\\2|(?!\\2)[^])*\\2(?=[^\\S\\n]*(?:#.*)?$)`, 'gm');

/** dotenv passes over what is no assignment, and ends a value at a "#" that is not quoted: both would alter a setting without a word. */
function assertWhole(text: string, file: string): void {
  const lines = text
    .replace(QUOTED, (quoted, name: string) => `${name}= ${quoted.replace(/[^\n]/g, '')}`)
    .split(/\r?\n/);
  for (const [index, line] of lines.entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const [, name = '', value] = ASSIGNMENT.exec(line) ?? [];
    const detail = `${file} line ${index + 1}`;
    if (value === undefined)
      throw new UsageError('a line of the file of settings is neither an assignment nor a comment', {
        detail,
        hint: 'write NAME=value, or begin the line with #',
      });
    if (/^[^#]*\S#/.test(`=${value}`))
      throw new UsageError(`the value of ${name} has a # that is not quoted, where the file of settings would end it`, {
        detail,
        hint: `put the value in single quotes, or a space before a # that begins a comment: ${name}='...'`,
      });
  }
}

/** What file and environment set: the environment wins, also where the two give a password in different ways. */
export function settingsFrom(ofFile: Named, ofEnvironment: Named): Record<string, string> {
  const [file, environment] = [named(ofFile), named(ofEnvironment)];
  const isOutdone = (name: string) =>
    /_PASSWORD(_FILE)?$/.test(name) &&
    (name.replace(/_FILE$/, '') in environment || `${name.replace(/_FILE$/, '')}_FILE` in environment);
  return { ...Object.fromEntries(Object.entries(file).filter(([name]) => !isOutdone(name))), ...environment };
}

/** What one place sets, by its full names: an alias counts where it stands, an empty value as not set, but for a password. */
function named(raw: Named): Record<string, string> {
  const given: Record<string, string> = {};
  for (const [name, value] of Object.entries(raw)) {
    if (value !== undefined && (value !== '' || name.endsWith('_PASSWORD'))) given[name] = value;
  }
  for (const [alias, name] of Object.entries(ALIASES)) {
    const value = given[name] ?? given[alias];
    if (value !== undefined) given[name] = value;
  }
  return given;
}
