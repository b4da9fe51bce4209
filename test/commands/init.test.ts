import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parse } from 'dotenv';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PROJECT_ROOT, type DatabaseSettings } from '../../runner/base/settings.js';
import { cleanEnvironment, runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';

let pipeline: TestPipeline;
beforeAll(async () => {
  pipeline = await createPipeline();
  await pipeline.source`create table fresh (id integer primary key, updated_at timestamptz not null)`;
});
afterAll(async () => {
  await pipeline.drop();
});

const urlOf = ({ user, host, port, database }: DatabaseSettings, password = '') =>
  `postgresql://${user}${password}@${host}:${String(port)}/${database}`;
const init = (file: string, env: Readonly<Record<string, string>>, ...args: string[]) =>
  runCli(['init', ...args], { ENV_FILE: path.join(pipeline.folder, file), ...env });
const read = (file: string) => readFile(path.join(pipeline.folder, file), 'utf8');

describe('tidemark init', () => {
  it('writes the settings that it was told, for its owner alone, checks them, proposes the tables, and says what to do next', async () => {
    const { source, warehouse } = pipeline.settings;
    const passwords = { DB_PASSWORD: "it's $ #1", WAREHOUSE_DB_PASSWORD: warehouse.password };
    const told = ['--source', urlOf(source), '--warehouse', urlOf(warehouse)];
    const { code, stdout } = await init('told.env', { ...passwords, DB_PASSWORD: source.password }, ...told);
    expect(code).toBe(0);
    expect(await read('told.env')).toContain(`\nDB_NAME=${source.database}\nDB_USER=${source.user}\n`);
    expect((await stat(path.join(pipeline.folder, 'told.env'))).mode & 0o777).toBe(0o600);
    expect(stdout).toMatch(/ok {7}source: PostgreSQL .* answers/);
    expect(stdout).toMatch(/^public\.fresh +to be added as fresh +id +updated_at/m);
    expect(stdout).toMatch(/^public\.orders +registered as orders/m);
    expect(stdout).toContain('  npx tidemark add --schema public\n');

    expect(await init('told.env', passwords, ...told)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('the file of settings is there already') as string,
    });
    await init('odd.env', passwords, ...told);
    expect(await read('odd.env')).toContain(`DB_PASSWORD="it's $ #1"\n`);
  });

  it('changes in a file that is there only what is named, and only when told to', async () => {
    const { source, warehouse } = pipeline.settings;
    const before = `# mine\nDB_NAME=old # was\nBATCH_SIZE=7\nDB_PASSWORD=${source.password}\nWAREHOUSE_DB_NAME=kept\n`;
    await writeFile(path.join(pipeline.folder, 'mine.env'), before);
    expect((await init('mine.env', {}, '--force')).stderr).toContain('--force changes what is named, and nothing is');
    await init('mine.env', {}, '--force', '--source', urlOf(source));
    expect(await read('mine.env')).toBe(
      before.replace('DB_NAME=old # was', `DB_NAME=${source.database}`) +
        `DB_HOST=${source.host}\nDB_PORT=${String(source.port)}\nDB_USER=${source.user}\n`,
    );
    expect(warehouse.database).not.toBe('kept');
  });

  it('takes what is not said from the environment of PostgreSQL’s programs, and puts history beside the source', async () => {
    const { source } = pipeline.settings;
    const { stdout } = await init('found.env', {
      ...{ PGHOST: source.host, PGPORT: String(source.port), PGDATABASE: source.database },
      ...{ PGUSER: source.user, PGPASSWORD: source.password },
    });
    expect(await read('found.env')).toMatch(
      new RegExp(`^WAREHOUSE_DB_HOST=${source.host}\\nWAREHOUSE_DB_PORT=${String(source.port)}\\n`, 'm'),
    );
    expect(stdout).toMatch(/next:\n {2}createdb -h .* warehouse_db\n {2}npx tidemark migrate/);
  });

  it.skipIf(process.platform !== 'linux')(
    'at a terminal asks for what it was not told, offers what it found, and shows no password',
    async () => {
      const { source, warehouse } = pipeline.settings;
      const command = `'${process.execPath}' dist/cli.js init --source ${urlOf(source)}`;
      const child = spawn('script', ['-qec', command, '/dev/null'], {
        cwd: PROJECT_ROOT,
        env: cleanEnvironment({ ENV_FILE: path.join(pipeline.folder, 'asked.env'), TERM: 'dumb' }),
      });
      const answers: Readonly<Record<string, string>> = {
        'source password: ': source.password,
        [`warehouse port [${String(source.port)}]: `]: String(warehouse.port),
        'warehouse name [warehouse_db]: ': warehouse.database,
        'warehouse password: ': warehouse.password,
      };
      let [said, answered] = ['', 0];
      child.stdout.on('data', (chunk: Buffer) => {
        said += chunk.toString();
        const [question] = /(?:source|warehouse) \w+(?: \[[^\]]*\])?: (?=\S*$)/.exec(said.slice(answered)) ?? [];
        if (question === undefined) return;
        answered = said.length;
        child.stdin.write(`${answers[question] ?? ''}\r`);
      });
      const [code] = (await once(child, 'close')) as [number | null];
      expect(said).toContain(`source name [${source.database}]: `);
      expect(said).toMatch(/ok {7}warehouse: PostgreSQL .* answers/);
      expect(said).toMatch(/source password: [\r\n]+warehouse host[^]*warehouse password: [\r\n]+wrote/);
      const file = await read('asked.env');
      expect(file).toContain(`\nDB_NAME=${source.database}\n`);
      expect(file).toContain(`\nWAREHOUSE_DB_NAME=${warehouse.database}\n`);
      expect(parse(file)).toMatchObject({ DB_PASSWORD: source.password, WAREHOUSE_DB_PASSWORD: warehouse.password });
      expect(code).toBe(0);
    },
  );

  it('takes no password from the command line', async () => {
    const refused = await init('none.env', {}, '--source', urlOf(pipeline.settings.source, ':secret'));
    expect(refused).toMatchObject({ code: 2, stdout: '' });
    expect(refused.stderr).not.toContain('secret');
    await expect(read('none.env')).rejects.toThrow('ENOENT');
  });
});
