import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parse, stringify } from 'yaml';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PROJECT_ROOT, SETTING_NAMES } from '../../runner/base/settings.js';
import { renderMetrics } from '../../runner/operate/metrics.js';
import { slotOf } from '../../runner/stream/position.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { until } from '../support/wait.js';

const deploy = path.join(PROJECT_ROOT, 'deploy');
const read = (...names: string[]) => readFileSync(path.join(deploy, ...names), 'utf8');

/** Whether a program is there; says out loud what is not tested if it is not. */
function has(program: string, args: readonly string[], what: string): boolean {
  const found = spawnSync(program, args, { stdio: 'ignore' }).status === 0;
  if (!found) process.stderr.write(`\nSKIPPED: ${program} ${args.join(' ')} does not run here, so ${what}\n\n`);
  return found;
}

let pipeline: TestPipeline;
beforeAll(async () => {
  pipeline = await createPipeline();
  page = await fullPage();
});
afterAll(async () => {
  await pipeline.source`alter system reset max_slot_wal_keep_size`;
  await pipeline.source`select pg_reload_conf()`;
  await pipeline.drop();
});

/** The page of metrics when everything has something to say. */
async function fullPage(): Promise<string> {
  await pipeline.warehouse.unsafe(`
    insert into tidemark.batches (dimension_name, batch_id, sequence, extracted_at, least_captured_at, greatest_captured_at, change_count, checksum, metadata, inserted_versions, closed_versions, absorbed_changes, apply_started_at, applied_at)
    values ('orders', 'b1', 1, now(), now(), now(), 1, 'c', json_build_object('high_watermark', json_build_object('time', now()::timestamp)), 1, 0, 0, now() - interval '200 s', now());
    select tidemark.note_reconciliation('orders', 10, 0, 0, 0, 0, now());
    select tidemark.subscribe('shop', 'webhook', 'https://shop.example/events');
    select tidemark.start_run('load', 'alive', 0, '{"pending_batches": {"orders": 1}, "host": "here", "process_id": 1, "cpu_utilization": 0, "memory_bytes": 1, "memory_utilization": 0, "disk_read_bytes_per_second": 0, "disk_written_bytes_per_second": 0, "disk_free_bytes": 1, "disk_utilization": 0}')`);
  const { slot } = slotOf(pipeline.settings);
  await pipeline.warehouse`select tidemark.note_stream_position(${slot}, '0/1', now(), '{orders}')`;
  await pipeline.source`alter system set max_slot_wal_keep_size = '1GB'`;
  await pipeline.source`select pg_reload_conf(), pg_create_logical_replication_slot(${slot}, 'pgoutput')`;
  return until(async () => {
    const shown = await renderMetrics(pipeline.settings);
    return shown.includes('tidemark_slot_safe_bytes{') && shown;
  });
}

let page: string;

test('rules and dashboard ask for metrics that are there, and the dashboard shows every one', () => {
  const known = new Set([...page.matchAll(/^# TYPE (\w+)/gm)].map(([, name = '']) => name));
  const named = (text: string) => [...new Set(text.match(/\btidemark_[a-z_0-9]+/g))];
  const [rules, dashboard] = [read('prometheus', 'alerts.yml'), read('grafana', 'dashboards', 'tidemark.json')];
  expect(
    [...named(rules), ...named(dashboard), ...named(read('prometheus', 'alerts.test.yml'))].filter(
      (name) => !known.has(name) && name !== 'tidemark_alert',
    ),
  ).toEqual([]);
  const unseen = [...known].filter((name) => name.startsWith('tidemark_') && !named(dashboard).includes(name));
  expect(unseen).toEqual([
    'tidemark_run_memory_utilization',
    'tidemark_change_log_disk_free_bytes',
    'tidemark_warehouse_connections',
    'tidemark_warehouse_connections_allowed',
  ]);
});

test('the dashboard is a dashboard: each panel has its own number, place and query', () => {
  const { panels } = JSON.parse(read('grafana', 'dashboards', 'tidemark.json')) as {
    panels: { id: number; title: string; gridPos: { x: number; w: number }; targets: { expr: string }[] }[];
  };
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  expect(
    panels.filter(({ gridPos, targets }) => gridPos.x + gridPos.w > 24 || targets.some(({ expr }) => expr === '')),
  ).toEqual([]);
});

test('units of systemd run commands that are there, under a user of their own, and name settings that are', () => {
  const units = readdirSync(path.join(deploy, 'systemd')).filter((name) => name.endsWith('.service'));
  const commands = units.map(
    (name) => /^ExecStart=\/usr\/bin\/node dist\/cli\.js (.*)$/m.exec(read('systemd', name))?.[1],
  );
  expect(commands).toEqual([
    'console',
    'extract --watch',
    'load --watch',
    'serve',
    'prune',
    'reconcile --watch',
    'relay --watch',
    'stream --watch --load',
  ]);
  expect(read('systemd', 'tidemark-prune.timer')).toMatch(/^OnCalendar=/m);
  for (const name of units) expect(read('systemd', name), name).toMatch(/^MemoryMax=[\s\S]*^CPUQuota=/m);
  for (const name of units) expect(read('systemd', name)).toMatch(/^User=tidemark$/m);
  const named = [...read('systemd', 'tidemark.env.example').matchAll(/^([A-Z_]+)=/gm)].map(([, name = '']) => name);
  expect(named.filter((name) => !SETTING_NAMES.includes(name))).toEqual([]);
});

/** The folders of the project that the runner's code names. */
function foldersThatAreRead(): string[] {
  const files = readdirSync(path.join(PROJECT_ROOT, 'runner'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  const named = files.flatMap((file) =>
    [...readFileSync(path.join(PROJECT_ROOT, 'runner', file), 'utf8').matchAll(/\bPACKAGE_ROOT, '(\w+)'/g)].map(
      ([, name = '']) => name,
    ),
  );
  return [...new Set(named)].sort();
}

test('the image copies what the runner reads, runs as nobody special, and has a health check', () => {
  const image = readFileSync(path.join(PROJECT_ROOT, 'Dockerfile'), 'utf8');
  expect(foldersThatAreRead()).toEqual(['dist', 'migrations', 'runner', 'sample_data', 'sql']);
  for (const part of [...foldersThatAreRead(), 'package.json'])
    expect(image).toMatch(new RegExp(`^COPY .*\\b${part}\\b`, 'm'));
  const admitted = readFileSync(path.join(PROJECT_ROOT, '.dockerignore'), 'utf8');
  for (const part of ['migrations', 'sample_data', 'sql', 'package.json'])
    expect(admitted).toMatch(new RegExp(`^!${part}\\b`, 'm'));
  expect(image.slice(image.lastIndexOf('\nFROM '))).toMatch(/^USER node$/m);
  expect(image).toMatch(/^HEALTHCHECK .*healthcheck\.mjs/m);
  expect(image).not.toMatch(/PASSWORD/);
});

interface ComposeService {
  readonly command?: readonly string[];
  readonly profiles?: readonly string[];
  readonly environment?: Readonly<Record<string, string | null>>;
  readonly build?: string;
  readonly read_only?: boolean;
  readonly deploy?: { readonly resources?: { readonly limits?: { readonly cpus?: string; readonly memory?: string } } };
}

test('docker-compose.yml runs commands that are there, each part a service with limits, and names settings that are', () => {
  const { services } = parse(readFileSync(path.join(PROJECT_ROOT, 'docker-compose.yml'), 'utf8'), { merge: true }) as {
    services: Record<string, ComposeService>;
  };
  const parts = Object.entries(services).filter(([, { profiles = [] }]) =>
    profiles.some((profile) => ['pipeline', 'console'].includes(profile)),
  );
  expect(parts.map(([name, { command }]) => [name, command?.join(' ')])).toEqual([
    ['migrate', 'migrate'],
    ['extractor', 'extract --watch'],
    ['streamer', 'stream --watch --load'],
    ['loader', 'load --watch'],
    ['reconciler', 'reconcile --watch'],
    ['relay', 'relay --watch'],
    ['metrics', 'serve'],
    ['console', 'console'],
  ]);
  const commands = readdirSync(path.join(PROJECT_ROOT, 'runner', 'commands')).map((name) => name.replace('.ts', ''));
  for (const [name, service] of parts) {
    expect(commands).toContain(service.command?.[0]);
    expect(
      Object.keys(service.environment ?? {}).filter((setting) => !SETTING_NAMES.includes(setting)),
      name,
    ).toEqual([]);
    expect(service.read_only, name).toBe(true);
    if (name !== 'migrate')
      expect(service.deploy?.resources?.limits, name).toEqual({
        cpus: expect.stringMatching(/^[0-9.]+$/) as string,
        memory: expect.stringMatching(/^[0-9]+M$/) as string,
      });
  }
  expect(Object.keys(services)).toEqual(
    expect.arrayContaining(['operational_db', 'warehouse_db', 'prometheus', 'grafana']),
  );
});

/** What the containers have their own of, or reach in other ways. */
const OWN_IN_A_CONTAINER =
  /^(DB|(WAREHOUSE|CONSOLE|CONSOLE_ACTIONS)_DB)_(SSL\w+|PASSWORD_FILE)$|API_KEY_FILE$|_DIR$|^LOG_ROTATE_|^(PGPASSFILE|METRICS_HOST|METRICS_PORT|ENV_FILE)$/;

test('every setting reaches the containers, but for those that are their own', () => {
  const { services } = parse(readFileSync(path.join(PROJECT_ROOT, 'docker-compose.yml'), 'utf8'), { merge: true }) as {
    services: Record<string, ComposeService>;
  };
  for (const part of ['migrate', 'extractor', 'streamer', 'loader', 'reconciler', 'relay', 'metrics', 'console'])
    expect(
      SETTING_NAMES.filter(
        (name) =>
          !OWN_IN_A_CONTAINER.test(name) &&
          (part === 'console' || !name.startsWith('CONSOLE_')) &&
          !(name in (services[part]?.environment ?? {})),
      ),
      part,
    ).toEqual([]);
});

test("beside databases of one's own the same parts run, as carefully, and one service of each file builds the image", () => {
  const [whole, own] = ['docker-compose.yml', 'deploy/docker/compose.yml'].map(
    (file) =>
      (
        parse(readFileSync(path.join(PROJECT_ROOT, file), 'utf8'), { merge: true }) as {
          services: Record<string, ComposeService>;
        }
      ).services,
  ) as [Record<string, ComposeService>, Record<string, ComposeService>];
  expect(Object.keys(own)).toEqual(['extractor', 'streamer', 'loader', 'reconciler', 'relay', 'metrics', 'console']);
  const careful = [
    'command',
    'restart',
    'stop_grace_period',
    'read_only',
    'tmpfs',
    'cap_drop',
    'security_opt',
    'deploy',
    'logging',
  ] as const;
  for (const [name, service] of Object.entries(own))
    for (const key of careful)
      expect(Reflect.get(service, key), `${name} ${key}`).toEqual(Reflect.get(whole[name] ?? {}, key));
  expect(
    [whole, own].map((services) => Object.keys(services).filter((name) => services[name]?.build !== undefined)),
  ).toEqual([['migrate'], ['loader']]);
});

test('Prometheus asks the service that serves, and every rule is whole and has a test', () => {
  const prometheus = parse(read('prometheus', 'prometheus.yml')) as {
    rule_files: string[];
    scrape_configs: { static_configs: { targets: string[] }[] }[];
  };
  expect([
    prometheus.rule_files,
    prometheus.scrape_configs.flatMap(({ static_configs }) => static_configs.flatMap(({ targets }) => targets)),
  ]).toEqual([['alerts.yml'], ['metrics:9464']]);
  const { groups } = parse(read('prometheus', 'alerts.yml')) as {
    groups: {
      rules: {
        alert: string;
        expr: string;
        for: string;
        labels: { severity: string };
        annotations: { summary: string; description: string };
      }[];
    }[];
  };
  const rules = groups.flatMap((group) => group.rules);
  expect(
    rules.filter(
      ({ expr, labels, annotations, ...rule }) =>
        expr === '' ||
        !['critical', 'warning'].includes(labels.severity) ||
        annotations.summary === '' ||
        annotations.description === '' ||
        !/^\d+m$/.test(rule.for),
    ),
  ).toEqual([]);
  const { tests } = parse(read('prometheus', 'alerts.test.yml')) as {
    tests: { alert_rule_test: { alertname: string }[] }[];
  };
  const tested = new Set(tests.flatMap(({ alert_rule_test }) => alert_rule_test.map(({ alertname }) => alertname)));
  expect([...tested].sort()).toEqual(rules.map(({ alert }) => alert).sort());
});

test.each([
  ['grafana', 'provisioning', 'datasources', 'prometheus.yml'],
  ['grafana', 'provisioning', 'dashboards', 'tidemark.yml'],
])('%s/%s/%s/%s is YAML of version 1', (...file) => {
  expect(parse(read(...file))).toMatchObject({ apiVersion: 1 });
});

describe.skipIf(!has('promtool', ['--version'], 'the rules of Prometheus are not tested by it'))('promtool', () => {
  test.each([
    ['check', 'config', 'prometheus.yml'],
    ['check', 'rules', 'alerts.yml'],
    ['test', 'rules', 'alerts.test.yml'],
  ])('%s %s %s', (...args) => {
    const { status, stdout, stderr } = spawnSync('promtool', args, {
      cwd: path.join(deploy, 'prometheus'),
      encoding: 'utf8',
    });
    expect(status, stdout + stderr).toBe(0);
  });

  test('check metrics: the page keeps the rules of its format and of naming', () => {
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: page, encoding: 'utf8' });
    expect(status, stdout + stderr).toBe(0);
  });

  test('check rules: each query of the dashboard can be read', () => {
    const { panels } = JSON.parse(read('grafana', 'dashboards', 'tidemark.json')) as {
      panels: { targets: { expr: string }[] }[];
    };
    const rules = panels
      .flatMap(({ targets }) => targets)
      .map(({ expr }, index) => ({ record: `query_${String(index)}`, expr }));
    const file = path.join(pipeline.folder, 'dashboard.yml');
    writeFileSync(file, stringify({ groups: [{ name: 'dashboard', rules }] }));
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'rules', '--lint=none', file], {
      encoding: 'utf8',
    });
    expect(status, stdout + stderr).toBe(0);
  });
});

describe.skipIf(!has('docker', ['compose', 'version'], 'docker-compose.yml is not read by it'))(
  'docker compose',
  () => {
    test.each([
      ['docker-compose.yml', '--profile', 'pipeline', '--profile', 'console', '--profile', 'monitoring'],
      ['deploy/docker/compose.yml', '--profile', 'console'],
    ])('reads %s, every profile', (file, ...profiles) => {
      const { status, stderr } = spawnSync('docker', ['compose', '--file', file, ...profiles, 'config', '--quiet'], {
        cwd: PROJECT_ROOT,
        encoding: 'utf8',
      });
      expect(status, stderr).toBe(0);
    });
  },
);

describe.skipIf(!has('systemd-analyze', ['--version'], 'the units of systemd are not read by it'))(
  'systemd-analyze',
  () => {
    test('knows every directive of the units', () => {
      const units = readdirSync(path.join(deploy, 'systemd'))
        .filter((name) => /\.(service|timer)$/.test(name))
        .map((name) => path.join(deploy, 'systemd', name));
      const { stderr } = spawnSync('systemd-analyze', ['verify', ...units], { encoding: 'utf8' });
      expect(stderr).not.toMatch(/Unknown (key|lvalue|section)/);
    });
  },
);
