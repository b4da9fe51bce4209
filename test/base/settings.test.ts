import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadSettings } from '../../runner/base/settings.js';
import { UsageError } from '../../runner/base/errors.js';

const folder = mkdtempSync(path.join(tmpdir(), 'tidemark-config-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const read = (environment: Record<string, string>) => loadSettings(environment, folder);

function failureOf(environment: Record<string, string>): UsageError {
  try {
    read(environment);
  } catch (error) {
    if (error instanceof UsageError) return error;
    throw error;
  }
  throw new Error('the settings were accepted');
}

describe('settings', () => {
  it('have the defaults of the original page', () => {
    const settings = read({});
    expect(settings.source).toMatchObject({
      host: 'localhost',
      port: 5434,
      database: 'operational_db',
      user: 'postgres',
      password: 'postgres',
    });
    expect(settings.warehouse).toMatchObject({ host: 'localhost', port: 5433, database: 'warehouse_db' });
    expect(settings).toMatchObject({
      mutation_interval_seconds: 5,
      cdc_extraction_interval_seconds: 10,
      log_level: 'INFO',
      batch_size: 100,
      max_connections: 20,
      watermark_advance_seconds: 30,
    });
  });

  it('come from the environment first, then from the file that ENV_FILE names', () => {
    writeFileSync(path.join(folder, 'custom.env'), 'DB_PORT=6001\nDB_NAME=from_file\n');
    const { source } = read({ ENV_FILE: 'custom.env', DB_PORT: '6002' });
    expect(source).toMatchObject({ port: 6002, database: 'from_file' });
  });

  it('take the aliases of the original, each place for itself', () => {
    writeFileSync(path.join(folder, 'long.env'), 'MUTATION_INTERVAL_SECONDS=7\nCDC_INTERVAL=8\n');
    expect(read({ MUTATION_INTERVAL: '30', CDC_INTERVAL: '60' })).toMatchObject({
      mutation_interval_seconds: 30,
      cdc_extraction_interval_seconds: 60,
    });
    expect(read({ ENV_FILE: 'long.env', MUTATION_INTERVAL: '30' })).toMatchObject({
      mutation_interval_seconds: 30,
      cdc_extraction_interval_seconds: 8,
    });
  });

  it('count an empty value as not set, but an empty password as a password', () => {
    expect(read({ DB_HOST: '', DB_PASSWORD: '' }).source).toMatchObject({ host: 'localhost', password: '' });
  });

  it.each([
    ['DB_PORT', '5432abc'],
    ['DB_PORT', '0'],
    ['DB_PORT', '65536'],
    ['BATCH_SIZE', '1.5'],
    ['BATCH_SIZE', '-1'],
    ['LOG_LEVEL', 'LOUD'],
    ['WAREHOUSE_DB_SSLMODE', 'maybe'],
    ['WATERMARK_ADVANCE_SECONDS', '1e3'],
  ])('that are wrong are named with value and what is accepted: %s=%s', (name, value) => {
    const { message, exitCode } = failureOf({ [name]: value });
    expect(message).toContain(`${name} is "${value}", accepted is`);
    expect(exitCode).toBe(2);
  });

  it.each([
    [{ BATCH_SIZE_MIN: '101' }],
    [{ BATCH_SIZE_MAX: '99' }],
    [{ BATCH_SIZE: '5', BATCH_SIZE_MIN: '6', BATCH_SIZE_MAX: '9' }],
  ])('that contradict each other are refused: %j', (environment) => {
    const { message, exitCode } = failureOf(environment);
    expect(message).toMatch(/^BATCH_SIZE is \d+, which is not between BATCH_SIZE_MIN/);
    expect(exitCode).toBe(2);
  });

  it.each(['CDC_LOG_DIR', 'LOG_DIR', 'TIDEMARK_RUN_DIR', 'TIDEMARK_DATA_DIR'])(
    'name no folder by a path that leads up again: %s',
    (name) => {
      for (const value of ['..', '../logs', '/var/lib/tidemark/../../etc', 'data/..', 'a\\..\\b', 'data/\0x'])
        expect(failureOf({ [name]: value }).message).toContain(
          `${name} is "${value}", accepted is a folder whose path does not lead up again (..)`,
        );
      expect(() => read({ [name]: 'data/..logs/a..b' })).not.toThrow();
    },
  );

  it('that are wrong are all named at once', () => {
    const { message } = failureOf({ DB_PORT: 'x', BATCH_SIZE: 'y' });
    expect(message).toMatch(/DB_PORT.*BATCH_SIZE/);
  });

  it('never show a password', () => {
    expect(failureOf({ DB_PASSWORD: 'sesame', DB_PORT: 'x' }).message).not.toContain('sesame');
  });

  const failureIn = (text: string) => {
    writeFileSync(path.join(folder, 'odd.env'), text);
    return failureOf({ ENV_FILE: 'odd.env' });
  };

  it.each(['DB_PASSWORD sesame', 'sesame', 'DB_PASSWORD:sesame'])(
    'in a line that is no assignment are refused by its number, and not shown: %s',
    (line) => {
      const failure = failureIn(`# mine\nDB_NOTE='one\ntwo'\n${line}\n`);
      expect([failure.message, failure.detail]).toEqual([
        'a line of the file of settings is neither an assignment nor a comment',
        `${path.join(folder, 'odd.env')} line 4`,
      ]);
      expect(JSON.stringify(failure)).not.toContain('sesame');
    },
  );

  it.each(['ses#ame', '#sesame', 'ses#ame # which is mine'])(
    'with a # that is not quoted are refused, not cut short: %s',
    (value) => {
      const failure = failureIn(`export DB_PASSWORD=${value}`);
      expect(failure.message).toBe(
        'the value of DB_PASSWORD has a # that is not quoted, where the file of settings would end it',
      );
      expect(JSON.stringify(failure)).not.toMatch(/ses#|sesame|#ame/);
    },
  );

  it.each([
    ["opt='ses#ame'", ''],
    ["'ses'a#me", ''],
    ['ses#ame', "# as DB_NOTE='this\n"],
  ])('are not cut short where quotes are no quotes of the value: %s', (value, before) => {
    expect(failureIn(`${before}DB_PASSWORD=${value}\n# or 'that'\n`).message).toBe(
      'the value of DB_PASSWORD has a # that is not quoted, where the file of settings would end it',
    );
  });

  it('are read as dotenv reads them: quotes in comments, a comment right behind quotes, a colon', () => {
    writeFileSync(
      path.join(folder, 'plain.env'),
      '\uFEFF# as in DB_NAME="\nDB_PASSWORD=\'ses#ame\'# it\'s "mine"\r\nDB_USER: me\nDB_NAME: "o\n#p" # two lines\nDB_PORT=6001',
    );
    expect(read({ ENV_FILE: 'plain.env' }).source).toMatchObject({
      password: 'ses#ame',
      user: 'me',
      database: 'o\n#p',
      port: 6001,
    });
  });

  it('may hold a # in quotes, and have comments behind them', () => {
    writeFileSync(
      path.join(folder, 'well.env'),
      '\r\nDB_PASSWORD=\'ses#ame\' # mine\r\nDB_USER=me # too\nDB_NAME= # none\n  # a comment\nWAREHOUSE_DB_PASSWORD="a\n#b"\nexport DB_PORT = 6001',
    );
    expect(read({ ENV_FILE: 'well.env' }).source).toMatchObject({
      password: 'ses#ame',
      user: 'me',
      database: 'operational_db',
      port: 6001,
    });
  });

  it.each([
    ['BATCH_SZIE', 'BATCH_SIZE'],
    ['batch_size', 'BATCH_SIZE'],
    ['WAREHOUSE_DB_PASWORD', 'WAREHOUSE_DB_PASSWORD'],
    ['DB_POOL', 'DB_PORT'],
    ['DATABASE_URL', undefined],
  ])('are refused in the file under a name that is none, with the nearest that is one: %s', (name, meant) => {
    const { message, exitCode } = failureIn(`${name}=secret\nPOSTGRES_VERSION=18\nCOMPOSE_PROJECT_NAME=shop\n`);
    const asked = meant === undefined ? '' : `, did you mean ${meant}?`;
    expect(message).toBe(`there is no such setting: ${name} in the file of settings${asked}`);
    expect(exitCode).toBe(2);
  });

  it.each([
    ['BATCH_SZIE', 'BATCH_SIZE'],
    ['DB_PROT', 'DB_PORT'],
    ['WAREHOUSE_DBHOST', 'WAREHOUSE_DB_HOST'],
    ['MAX_CONECTION', 'MAX_CONNECTIONS'],
  ])('are refused in the environment under a name that is all but one of ours: %s', (name, meant) => {
    expect(failureOf({ [name]: 'x' }).message).toBe(
      `there is no such setting: ${name} in the environment, did you mean ${meant}?`,
    );
  });

  it.each([
    'DB_POOL',
    'DB_POOL_SIZE',
    'DB_PATH',
    'DB_URL',
    'DATABASE_URL',
    'PGHOST',
    'PGPORT',
    'PGPASSWORD',
    'LOG_FILE',
  ])('share the environment with those of other programs: %s', (name) => {
    expect(() => read({ [name]: 'x' })).not.toThrow();
  });

  it('share the environment with a name that is near one of ours, where that is set too', () => {
    expect(read({ DB_HOSTS: 'one,two', DB_HOST: 'one' }).source.host).toBe('one');
  });

  it('name an ENV_FILE that does not exist', () => {
    for (const name of ['nowhere.env', '.'])
      expect(failureOf({ ENV_FILE: name }).message).toContain(
        'the file of settings that ENV_FILE names cannot be read',
      );
  });
});

describe('passwords', () => {
  const file = (name: string, text: string, mode = 0o600) => {
    writeFileSync(path.join(folder, name), text, { mode });
    return name;
  };

  it('come from a file where one is named, without its line break', () => {
    expect(read({ DB_PASSWORD_FILE: file('one.secret', 'p w:d\r\n', 0o444) }).source.password).toBe('p w:d');
    expect(read({ WAREHOUSE_DB_PASSWORD_FILE: path.join(folder, 'one.secret') })).toMatchObject({
      warehouse: { password: 'p w:d' },
      source: { password: 'postgres' },
    });
  });

  it('are refused in two places at once, but the environment outdoes the file of settings', () => {
    file('two.env', 'DB_PASSWORD=from the file\n');
    expect(failureOf({ DB_PASSWORD: 'a', DB_PASSWORD_FILE: 'one.secret' }).message).toBe(
      'DB_PASSWORD and DB_PASSWORD_FILE are both set',
    );
    expect(read({ ENV_FILE: 'two.env', DB_PASSWORD_FILE: 'one.secret' }).source.password).toBe('p w:d');
    file('three.env', 'DB_PASSWORD_FILE=one.secret\n');
    expect(read({ ENV_FILE: 'three.env', DB_PASSWORD: 'mine' }).source.password).toBe('mine');
  });

  it.each([
    ['nothing', '', 'does not hold one line with a password'],
    ['a line break only', '\n', 'does not hold one line with a password'],
    ['two lines', 'one\ntwo\n', 'does not hold one line with a password'],
    ['far too much', 'x'.repeat(70_000), 'is too large for a password'],
  ])('in a file that holds %s are refused, and not shown', (_, text, reason) => {
    const { message, exitCode } = failureOf({ DB_PASSWORD_FILE: file('wrong.secret', text) });
    expect(message).toBe(`DB_PASSWORD_FILE names a file that ${reason}: ${path.join(folder, 'wrong.secret')}`);
    expect(exitCode).toBe(2);
  });

  it('in a file that is not there are refused with the name of the setting', () => {
    expect(failureOf({ WAREHOUSE_DB_PASSWORD_FILE: 'nowhere' }).message).toContain(
      'WAREHOUSE_DB_PASSWORD_FILE names a file that cannot be read',
    );
    expect(failureOf({ PGPASSFILE: 'nowhere' }).message).toContain('PGPASSFILE names a file that cannot be read');
  });

  it('come from the first line of PGPASSFILE that fits, unless they are set', () => {
    file(
      'pass',
      '# a comment\n\nlocalhost:5434:other:postgres:wrong\nlocalhost:5434:operational_db:postgres:a\\:b\\\\c:d\nlocalhost:*:*:*:rest\n*:*:*:*:too late\n',
    );
    expect(read({ PGPASSFILE: 'pass' })).toMatchObject({
      source: { password: 'a:b\\c:d' },
      warehouse: { password: 'rest' },
    });
    expect(read({ PGPASSFILE: 'pass', DB_PASSWORD: '' }).source.password).toBe('');
    expect(read({ PGPASSFILE: 'pass', DB_HOST: 'elsewhere' }).source.password).toBe('too late');
    expect(read({ PGPASSFILE: file('pass 2', 'elsewhere:*:*:*:x\n') }).source.password).toBe('postgres');
  });

  it('in a PGPASSFILE that others can read are refused', () => {
    expect(failureOf({ PGPASSFILE: file('open pass', '*:*:*:*:x\n', 0o644) }).message).toContain(
      'PGPASSFILE names a file that others can read',
    );
  });
});
