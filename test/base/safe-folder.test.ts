import { chmod, chown, lchown, mkdir, mkdtemp, readdir, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openChangeLog } from '../../runner/change-log/chain.js';
import { assertSafeFolder } from '../../runner/base/safe-folder.js';
import { runCli, type CliResult } from '../support/cli.js';
import { createPipeline, foldersIn } from '../support/databases.js';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'tidemark-safe-'));
});
afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

const inRoot = (...names: string[]) => path.join(root, ...names);
const make = async (mode: number, ...names: string[]) => {
  const folder = inRoot(...names);
  await mkdir(folder, { recursive: true });
  await chmod(folder, mode);
  return folder;
};
const check = (folder: string, isOwn = true) => assertSafeFolder(folder, 'CDC_LOG_DIR', isOwn);

/** A user that is neither root nor this one. */
const STRANGER = 54_321;
const isRoot = process.getuid?.() === 0;
if (!isRoot)
  process.stderr.write('\nSKIPPED: only root can give folders to others, so folders of others are not tested\n\n');

describe('a folder', () => {
  it("that is its user's own, or not there yet, is safe, and so is one below /tmp", async () => {
    await expect(check(await make(0o700, 'own'))).resolves.toBeUndefined();
    await expect(check(await make(0o775, 'open to read'))).resolves.toBeUndefined();
    await expect(check(inRoot('not', 'there'))).resolves.toBeUndefined();
    await expect(check(await make(0o700, 'sticky', 'own'))).resolves.toBeUndefined();
    await chmod(inRoot('sticky'), 0o1777);
    await expect(check(inRoot('sticky', 'own'))).resolves.toBeUndefined();
  });

  it('that everybody may write to is refused, with the command that closes it', async () => {
    const folder = await make(0o777, 'open');
    await expect(check(folder)).rejects.toMatchObject({
      message: `${folder} is not safe: everybody may write to it`,
      hint: `close it (chmod o-w ${folder}), or set CDC_LOG_DIR to another folder`,
    });
  });

  it('below one in which everybody may move things is refused, over a link too', async () => {
    const [folder, open] = [await make(0o700, 'open', 'own'), await make(0o777, 'open')];
    const refused = { message: expect.stringContaining(`everybody may write to ${open} above it`) as string };
    await expect(check(folder)).rejects.toMatchObject(refused);
    await symlink(open, inRoot('link'));
    await expect(check(inRoot('link', 'own'))).rejects.toMatchObject(refused);
  });

  it("that is a link is refused, and a file too; a link of one's own on the way to it is not", async () => {
    await make(0o700, 'real', 'below');
    await symlink(inRoot('real'), inRoot('link'));
    for (const place of ['link', 'dangling']) {
      if (place === 'dangling') await symlink(inRoot('nowhere'), inRoot(place));
      await expect(check(inRoot(place))).rejects.toMatchObject({
        message: `${inRoot(place)} is not a folder of its own`,
      });
    }
    await expect(check(inRoot('link', 'below'))).resolves.toBeUndefined();
  });

  it.skipIf(!isRoot)('of another user is refused, unless it is for others to own', async () => {
    const folder = await make(0o700, 'foreign');
    await chown(folder, STRANGER, STRANGER);
    await expect(check(folder)).rejects.toMatchObject({
      message: `${folder} is not safe: it belongs to another OS user (number ${String(STRANGER)})`,
    });
    await expect(check(folder, false)).resolves.toBeUndefined();
  });

  it.skipIf(!isRoot)('on the way to which another user has laid a link is refused', async () => {
    await make(0o700, 'real', 'own');
    await symlink(inRoot('real'), inRoot('link'));
    await lchown(inRoot('link'), STRANGER, STRANGER);
    await expect(check(inRoot('link', 'own'))).rejects.toMatchObject({
      message: expect.stringContaining(
        `${inRoot('link')} on the way to it is a symbolic link of another OS user`,
      ) as string,
    });
  });
});

describe('the change log', () => {
  it.each(['orders', 'orders/processed', 'orders/checkpoints', '.'])(
    'is refused while %s in it is not safe, and nothing is written elsewhere',
    async (place) => {
      const log = inRoot('cdc_logs');
      await openChangeLog(log, 'orders');
      await rm(path.join(log, place), { recursive: true });
      await mkdir(inRoot('victim'));
      await symlink(inRoot('victim'), path.join(log, place));
      await expect(openChangeLog(log, 'orders')).rejects.toMatchObject({
        message: expect.stringContaining('is not a folder of its own') as string,
      });
      expect(await readdir(inRoot('victim'))).toEqual([]);
    },
  );

  it('is made for its user alone, whatever the umask', async () => {
    const before = process.umask(0);
    try {
      const { folder, processed, checkpoints } = await openChangeLog(inRoot('new', 'cdc_logs'), 'orders');
      for (const each of [inRoot('new', 'cdc_logs'), folder, processed, checkpoints])
        expect((await stat(each)).mode & 0o777).toBe(0o700);
    } finally {
      process.umask(before);
    }
  });
});

describe('commands', () => {
  const WHERE = /is not (a folder of its own|safe: everybody may write to it)/;
  it('refuse folders that are not safe, each by its setting', async () => {
    const pipeline = await createPipeline();
    const open = await make(0o777, 'open');
    await symlink(open, inRoot('link'));
    const tries: (readonly [string, string, readonly string[]])[] = [
      ['CDC_LOG_DIR', open, ['extract']],
      ['CDC_LOG_DIR', inRoot('link'), ['load']],
      ['LOG_DIR', open, ['extract', '--watch', '--service']],
      ['TIDEMARK_RUN_DIR', inRoot('link'), ['load', '--watch', '--service']],
      ['TIDEMARK_DATA_DIR', open, ['db', 'start']],
      ['TIDEMARK_DATA_DIR', inRoot('link'), ['db', 'start']],
    ];
    for (const [setting, folder, args] of tries) {
      // Embedded servers are asked for no certificate.
      const env = args[0] === 'db' ? { ...foldersIn(pipeline.folder), DB_PORT: '1' } : pipeline.env;
      const { code, stderr }: CliResult = await runCli([...args], { ...env, [setting]: folder });
      expect([setting, code, WHERE.test(stderr), stderr.includes(setting)], stderr).toEqual([setting, 1, true, true]);
    }
    expect(await readdir(open)).toEqual([]);
    await pipeline.drop();
  });

  it('refuse tables of names that lead elsewhere', async () => {
    const pipeline = await createPipeline();
    for (const name of ['../orders', '..', 'orders/../../etc', '/etc', 'orders\\..', '.'])
      for (const command of ['extract', 'load', 'verify-log', 'prune']) {
        const { code, stderr } = await runCli([command, '--table', name], pipeline.env);
        expect([name, command, code]).toEqual([name, command, 2]);
        expect(stderr).toContain('no table of that name is registered');
      }
    await pipeline.drop();
  });
});
