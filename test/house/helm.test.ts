import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { PrometheusRule, ServiceMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1';
import { Deployment, StatefulSet } from 'kubernetes-models/apps/v1';
import { CronJob, Job } from 'kubernetes-models/batch/v1';
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1';
import { Service } from 'kubernetes-models/v1';
import { parse, parseAllDocuments } from 'yaml';
import { beforeAll, describe, expect, test } from 'vitest';
import { PROJECT_ROOT, SETTING_NAMES } from '../../runner/base/settings.js';

/** The chart is rendered by helm and looked at here; no cluster has run it. */
const CHART = path.join(PROJECT_ROOT, 'deploy', 'helm', 'tidemark');
const read = (...names: string[]) => readFileSync(path.join(CHART, ...names), 'utf8');

const found = spawnSync(path.join(PROJECT_ROOT, 'test', 'support', 'helm.sh'), { encoding: 'utf8' });
const helm = found.status === 0 ? found.stdout.trim() : undefined;
if (helm === undefined)
  process.stderr.write(`\nSKIPPED: there is no helm and none could be fetched, so the chart is not rendered\n\n`);

interface Container {
  readonly name: string;
  args: string[];
  env: { readonly name: string; value?: string }[];
  image: string;
  livenessProbe?: object;
  resources: { limits?: Partial<Record<'cpu' | 'memory', string>>; requests?: object };
  securityContext: Record<string, unknown>;
  readonly volumeMounts: { readonly name: string; readonly mountPath: string; readOnly?: boolean }[];
}
interface Pod {
  readonly metadata: { readonly labels: Record<string, string> };
  readonly spec: {
    affinity?: object;
    automountServiceAccountToken?: boolean;
    enableServiceLinks?: boolean;
    terminationGracePeriodSeconds: number;
    restartPolicy: string;
    securityContext: Record<string, unknown>;
    readonly containers: Container[];
    readonly volumes: Record<string, unknown>[];
  };
}
interface Rendered {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly annotations?: Readonly<Record<string, string>> };
  readonly spec: Record<string, unknown>;
}

const VALUES = {
  image: { repository: 'registry.example.com/tidemark' },
  existingSecret: 'both',
  dimensionsConfigMap: 'registrations',
  migrate: { existingSecret: 'owner' },
  console: { enabled: true, existingSecret: 'looking' },
  relay: { enabled: true },
  metrics: { serviceMonitor: true, prometheusRule: true, labels: { release: 'prometheus' } },
  settings: {
    DB_HOST: 'orders.example.com',
    DB_PORT: 5434,
    WAREHOUSE_DB_HOST: 'warehouse.example.com',
    BATCH_MAX_BYTES: 16_777_216,
    SHUTDOWN_TIMEOUT_SECONDS: 60,
  },
};

function runHelm(values: object): { status: number | null; stdout: string; stderr: string } {
  const args = ['template', 'shop', CHART, '--namespace', 'cdc', '--values', '-'];
  return spawnSync(helm ?? '', args, { encoding: 'utf8', input: JSON.stringify(values) });
}

function render(values: object = VALUES): Rendered[] {
  const { status, stdout, stderr } = runHelm(values);
  expect(status, stderr).toBe(0);
  return parseAllDocuments(stdout)
    .map((document) => document.toJS() as Rendered | null)
    .filter((each) => each !== null);
}

const podOf = ({ kind, spec }: Rendered): Pod | undefined => {
  const job = kind === 'CronJob' ? (spec.jobTemplate as Rendered) : { spec };
  return job.spec.template as Pod | undefined;
};
const podNamed = (objects: readonly Rendered[], name: string): Pod => {
  const pod = objects.filter((each) => each.metadata.name === `shop-tidemark-${name}`).map(podOf);
  return pod.find((each) => each !== undefined) ?? expect.unreachable(`no pod ${name}`);
};
const envOf = ({ env }: Container) => Object.fromEntries(env.map(({ name, value }) => [name, value]));

let objects: Rendered[];
beforeAll(() => {
  if (helm !== undefined) objects = render();
});

test('the values are those that the schema knows, and every setting is one of them but for those that the chart sets or a pod has no use for', () => {
  const schema = JSON.parse(read('values.schema.json')) as {
    properties: Record<string, { properties: Record<string, object> }>;
  };
  const values = parse(read('values.yaml')) as Record<string, object>;
  expect(Object.keys(schema.properties).filter((name) => name !== 'global')).toEqual(Object.keys(values));
  const own =
    /PASSWORD|API_KEY$|_DIR$|^(ENV_FILE|PGPASSFILE|CONSOLE_(TOKEN_FILE|DB_USER|SHOW_LINES|ALLOW_ACTIONS|ACTIONS_DB_USER))$|^(METRICS|CONSOLE)_(HOST|PORT)$|^LOG_ROTATE_|^MUTATION_/;
  expect(Object.keys(schema.properties.settings?.properties ?? {})).toEqual(
    SETTING_NAMES.filter((name) => !own.test(name)),
  );
});

test('the chart is of the version of the package, and its rules are those of deploy/prometheus', () => {
  const { version } = JSON.parse(readFileSync(path.join(PROJECT_ROOT, 'package.json'), 'utf8')) as { version: string };
  expect(parse(read('Chart.yaml'))).toMatchObject({ version, appVersion: version });
  expect(read('alerts.yml')).toBe(readFileSync(path.join(PROJECT_ROOT, 'deploy', 'prometheus', 'alerts.yml'), 'utf8'));
});

const MODELS = [StatefulSet, Deployment, Job, CronJob, Service, NetworkPolicy, ServiceMonitor, PrometheusRule];

/** What is wrong with an object by the API of Kubernetes. Its validators read every field that they know: one that they did not read is unknown. */
function faultsOf(given: Rendered): string[] {
  const Model = MODELS.find(({ apiVersion, kind }) => apiVersion === given.apiVersion && kind === given.kind);
  if (Model === undefined) return [`${given.apiVersion} ${given.kind} has no model`];
  const unread = new Set<string>();
  const watched = (value: unknown, place: string): unknown => {
    if (typeof value !== 'object' || value === null) return value;
    for (const name of Object.keys(value)) unread.add(`${place}/${name}`);
    const children = new Map(Object.entries(value).map(([name, each]) => [name, watched(each, `${place}/${name}`)]));
    return new Proxy(value, {
      get: (target, name): unknown => {
        unread.delete(`${place}/${String(name)}`);
        return typeof name === 'string' && children.has(name) ? children.get(name) : Reflect.get(target, name);
      },
    });
  };
  try {
    // Not of an object of the model: that would be a copy, every field of which was read.
    Model.prototype.validate.call(watched(given, '') as never);
  } catch (error) {
    return [(error as Error).message];
  }
  return [...unread].map((field) => `${field} is unknown`);
}

/** What holds of every pod and container, and what would break it. */
const POLICY: Record<
  string,
  { holds: (pod: Pod, each: Container) => boolean; broken: (pod: Pod, each: Container) => void }
> = {
  'runs as nobody special': {
    holds: ({ spec: { securityContext: of } }) =>
      of.runAsNonRoot === true && of.runAsUser === 1000 && of.runAsGroup === 1000,
    broken: ({ spec }) => void (spec.securityContext.runAsUser = 0),
  },
  'cannot gain rights': {
    holds: (_, { securityContext: of }) =>
      of.allowPrivilegeEscalation === false &&
      of.privileged === undefined &&
      JSON.stringify(of.capabilities) === '{"drop":["ALL"]}',
    broken: (_, each) => void (each.securityContext.capabilities = { drop: ['ALL'], add: ['NET_RAW'] }),
  },
  'has a filter of system calls': {
    holds: ({ spec }) => JSON.stringify(spec.securityContext.seccompProfile) === '{"type":"RuntimeDefault"}',
    broken: ({ spec }) => delete spec.securityContext.seccompProfile,
  },
  'cannot write but to /tmp and the change log': {
    holds: (_, { securityContext: of, volumeMounts }) =>
      of.readOnlyRootFilesystem === true &&
      volumeMounts.every(
        ({ mountPath, readOnly }) => readOnly === true || ['/tmp', '/var/lib/tidemark'].includes(mountPath),
      ),
    broken: (_, each) => each.volumeMounts.forEach((mount) => delete mount.readOnly),
  },
  'has no token of a service account': {
    holds: ({ spec }) => spec.automountServiceAccountToken === false && !('serviceAccountName' in spec),
    broken: ({ spec }) => delete spec.automountServiceAccountToken,
  },
  'takes no setting from the name of a Service': {
    holds: ({ spec }) => spec.enableServiceLinks === false,
    broken: ({ spec }) => delete spec.enableServiceLinks,
  },
  'leaves the modes of files in the change log alone': {
    holds: ({ spec }) => spec.securityContext.fsGroupChangePolicy === 'OnRootMismatch',
    broken: ({ spec }) => delete spec.securityContext.fsGroupChangePolicy,
  },
  'has limits': {
    holds: (_, { resources: { limits } }) => limits?.cpu !== undefined && limits.memory !== undefined,
    broken: (_, each) => delete each.resources.limits?.memory,
  },
  'holds no secret but by the name of a file': {
    holds: (_, each) =>
      Object.keys(each).every((field) => field !== 'envFrom') &&
      each.env.every(
        ({ name, value }) =>
          value !== undefined && (!/PASSWORD|TOKEN|KEY/.test(name) || value.startsWith('/etc/tidemark/secret/')),
      ),
    broken: (_, { env }) => env.push({ name: 'DB_PASSWORD', value: 'hidden' }),
  },
  'sets settings that are': {
    holds: (_, each) => each.env.every(({ name }) => SETTING_NAMES.includes(name)),
    broken: (_, { env }) => env.push({ name: 'DB_HOTS', value: 'x' }),
  },
  'runs a command that is there': {
    holds: (_, { args: [command = ''] }) =>
      readdirSync(path.join(PROJECT_ROOT, 'runner', 'commands')).includes(`${command}.ts`),
    broken: (_, { args }) => args.unshift('replay'),
  },
  'may finish what it has in hand': {
    holds: ({ spec }, { env }) =>
      spec.terminationGracePeriodSeconds >=
      Number(env.find(({ name }) => name === 'SHUTDOWN_TIMEOUT_SECONDS')?.value) + 10,
    broken: ({ spec }) => void (spec.terminationGracePeriodSeconds = 30),
  },
  'is asked whether it is well, if it goes on': {
    holds: ({ spec }, { livenessProbe }) => spec.restartPolicy === 'Never' || livenessProbe !== undefined,
    broken: (_, each) => delete each.livenessProbe,
  },
};

describe.skipIf(helm === undefined)('the chart', () => {
  test('makes objects of these kinds, each with a name of its own', () => {
    expect(objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`).sort()).toEqual([
      'CronJob shop-tidemark-check',
      'CronJob shop-tidemark-prune',
      'Deployment shop-tidemark-console',
      'Deployment shop-tidemark-metrics',
      'Deployment shop-tidemark-relay',
      'Job shop-tidemark-migrate',
      'NetworkPolicy shop-tidemark',
      'NetworkPolicy shop-tidemark-console',
      'NetworkPolicy shop-tidemark-metrics',
      'NetworkPolicy shop-tidemark-migrate',
      'PrometheusRule shop-tidemark-metrics',
      'Service shop-tidemark-console',
      'Service shop-tidemark-metrics',
      'Service shop-tidemark-pipeline',
      'ServiceMonitor shop-tidemark-metrics',
      'StatefulSet shop-tidemark-pipeline',
    ]);
  });

  test('makes objects that the API of Kubernetes knows, every field of them', () => {
    for (const each of objects) expect(faultsOf(each), each.metadata.name).toEqual([]);
  });

  test.each([
    ['a field that is unknown', (pod: Pod) => void Object.assign(pod.spec, { restartPolicies: 'Never' })],
    [
      'an unknown field far within',
      (pod: Pod) => void Object.assign(pod.spec.containers[0]?.livenessProbe ?? {}, { periodSecond: 1 }),
    ],
    ['a value of another type', (pod: Pod) => void Object.assign(pod.spec, { terminationGracePeriodSeconds: 'soon' })],
    ['what is missing', (pod: Pod) => pod.spec.containers.forEach((each) => Reflect.deleteProperty(each, 'name'))],
  ])('would be found to have %s', (_, breakIt) => {
    const broken = structuredClone(objects).find(({ kind }) => kind === 'StatefulSet');
    const pod = broken && podOf(broken);
    if (broken === undefined || pod === undefined) return expect.unreachable();
    breakIt(pod);
    expect(faultsOf(broken)).toHaveLength(1);
  });

  test.each(Object.entries(POLICY))(
    'has pods of which each %s, and one that did not would be found',
    (_, { holds, broken }) => {
      const pods = structuredClone(objects).flatMap((each) => podOf(each) ?? []);
      expect(pods).toHaveLength(7);
      const fallen = () =>
        pods.flatMap((pod) => pod.spec.containers.filter((each) => !holds(pod, each)).map(({ name }) => name));
      expect(fallen()).toEqual([]);
      for (const pod of pods) for (const each of pod.spec.containers) broken(pod, each);
      expect(fallen().length).toBeGreaterThan(0);
    },
  );

  test('runs what extracts, loads and compares in one pod over one volume, which stays when the release goes', () => {
    const [set] = objects.filter(({ kind }) => kind === 'StatefulSet');
    expect(set?.spec).toMatchObject({
      replicas: 1,
      persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Retain', whenScaled: 'Retain' },
      volumeClaimTemplates: [{ metadata: { name: 'change-log' }, spec: { accessModes: ['ReadWriteOnce'] } }],
    });
    const { containers } = podNamed(objects, 'pipeline').spec;
    expect(containers.map(({ args }) => args.join(' '))).toEqual([
      'extract --watch',
      'stream --watch --load',
      'load --watch',
      'reconcile --watch',
    ]);
    for (const { volumeMounts } of containers)
      expect(volumeMounts).toContainEqual({ name: 'change-log', mountPath: '/var/lib/tidemark' });
    for (const [capture, left] of [
      ['poll', ['extractor', 'loader', 'reconciler']],
      ['log', ['streamer', 'loader', 'reconciler']],
    ] as const)
      expect(podNamed(render({ ...VALUES, capture }), 'pipeline').spec.containers.map(({ name }) => name)).toEqual(
        left,
      );
  });

  test('prunes that volume, on the node that has it', () => {
    const { spec } = podNamed(objects, 'prune');
    const [set] = objects.filter(({ kind }) => kind === 'StatefulSet');
    expect(spec.volumes).toContainEqual({
      name: 'change-log',
      persistentVolumeClaim: { claimName: `change-log-${set?.metadata.name ?? ''}-0` },
    });
    expect(spec.containers[0]?.volumeMounts).toContainEqual({ name: 'change-log', mountPath: '/var/lib/tidemark' });
    const [term, ...others] = (
      spec.affinity as { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: Record<string, unknown>[] } }
    ).podAffinity.requiredDuringSchedulingIgnoredDuringExecution;
    expect([term?.topologyKey, others]).toEqual(['kubernetes.io/hostname', []]);
    expect((term?.labelSelector as { matchLabels: object }).matchLabels).toEqual(
      (set?.spec.selector as { matchLabels: object }).matchLabels,
    );
  });

  test('selects by labels that its pods have, and by no more pods than are meant', () => {
    const pods = objects.flatMap((each) => podOf(each) ?? []);
    const selected = ({ kind, spec }: Rendered) => {
      const given = (spec.podSelector ?? spec.selector) as
        | Record<string, string>
        | { matchLabels: Record<string, string> };
      const labels = Object.entries(kind === 'Service' ? given : (given as { matchLabels: object }).matchLabels);
      return pods
        .filter(({ metadata }) => labels.every(([name, value]) => metadata.labels[name] === value))
        .map(({ metadata }) => metadata.labels['app.kubernetes.io/component']);
    };
    const selecting = objects.filter(({ spec }) => 'selector' in spec || 'podSelector' in spec);
    expect(Object.fromEntries(selecting.map((each) => [`${each.kind} ${each.metadata.name}`, selected(each)]))).toEqual(
      {
        'Deployment shop-tidemark-console': ['console'],
        'Deployment shop-tidemark-metrics': ['metrics'],
        'Deployment shop-tidemark-relay': ['relay'],
        'NetworkPolicy shop-tidemark': expect.arrayContaining([
          'check',
          'console',
          'metrics',
          'migrate',
          'pipeline',
          'prune',
          'relay',
        ]) as string[],
        'NetworkPolicy shop-tidemark-console': ['console'],
        'NetworkPolicy shop-tidemark-metrics': ['metrics'],
        'NetworkPolicy shop-tidemark-migrate': ['migrate'],
        'Service shop-tidemark-console': ['console'],
        'Service shop-tidemark-metrics': ['metrics'],
        'Service shop-tidemark-pipeline': ['pipeline'],
        // A monitor selects Services, which have the labels of what they lead to.
        'ServiceMonitor shop-tidemark-metrics': ['metrics'],
        'StatefulSet shop-tidemark-pipeline': ['pipeline'],
      },
    );
  });

  test('lets nobody in but where it serves, and out to names and databases', () => {
    const policies = Object.fromEntries(
      objects.filter(({ kind }) => kind === 'NetworkPolicy').map(({ metadata, spec }) => [metadata.name, spec]),
    );
    const ports = (rules: unknown) =>
      (rules as { ports: { protocol: string; port: number }[] }[]).flatMap((rule) =>
        rule.ports.map(({ protocol, port }) => `${protocol} ${String(port)}`),
      );
    for (const name of ['shop-tidemark', 'shop-tidemark-migrate']) {
      expect(policies[name]).toMatchObject({ policyTypes: ['Ingress', 'Egress'] });
      expect(policies[name]).not.toHaveProperty('ingress');
      expect(ports(policies[name]?.egress)).toEqual(['UDP 53', 'TCP 53', 'TCP 5434', 'TCP 5432']);
    }
    expect(ports(policies['shop-tidemark-metrics']?.ingress)).toEqual(['TCP 9464']);
    expect(policies['shop-tidemark-console']?.ingress).toEqual([
      { ports: [{ protocol: 'TCP', port: 9465 }], from: [{ podSelector: {} }] },
    ]);
    const to = [{ ipBlock: { cidr: '10.0.0.0/24' } }];
    const closed = render({ ...VALUES, networkPolicy: { databases: to } }).find(
      ({ metadata, kind }) => kind === 'NetworkPolicy' && metadata.name === 'shop-tidemark',
    );
    expect(closed?.spec.egress).toMatchObject([{}, { to }]);
    expect(
      render({ ...VALUES, networkPolicy: { enabled: false } }).filter(({ kind }) => kind === 'NetworkPolicy'),
    ).toEqual([]);
  });

  test('migrates as the owner before anything else is made, and needs nothing of the release for it', () => {
    const [job] = objects.filter(({ kind }) => kind === 'Job');
    expect(job?.metadata.annotations).toMatchObject({ 'helm.sh/hook': 'pre-install,pre-upgrade' });
    const { containers, volumes } = podNamed(objects, 'migrate').spec;
    expect(containers.map(envOf)).toMatchObject([
      { WAREHOUSE_DB_USER: 'tidemark_owner', DIMENSIONS_DIR: '/etc/tidemark/dimensions' },
    ]);
    expect(volumes.map(({ secret, configMap }) => secret ?? configMap).filter(Boolean)).toEqual([
      { secretName: 'owner', defaultMode: 288 },
      { name: 'registrations' },
    ]);
  });

  test('gives each pod the secret it is meant to have, and the settings as they were given', () => {
    const secretOf = (name: string) =>
      podNamed(objects, name).spec.volumes.flatMap(
        ({ secret }) => (secret as { secretName: string } | undefined)?.secretName ?? [],
      );
    expect(['pipeline', 'metrics', 'console', 'migrate', 'check', 'prune', 'relay'].map(secretOf)).toEqual(
      ['both', 'both', 'looking', 'owner', 'both', 'both', 'both'].map((name) => [name]),
    );
    const [console] = podNamed(objects, 'console').spec.containers;
    expect(console && envOf(console)).toEqual({
      BATCH_MAX_BYTES: '16777216',
      CONSOLE_DB_PASSWORD_FILE: '/etc/tidemark/secret/CONSOLE_DB_PASSWORD',
      CONSOLE_DB_USER: 'tidemark_analyst',
      CONSOLE_HOST: '0.0.0.0',
      CONSOLE_PORT: '9465',
      CONSOLE_SHOW_LINES: 'none',
      CONSOLE_TOKEN_FILE: '/etc/tidemark/secret/CONSOLE_TOKEN',
      DB_HOST: 'orders.example.com',
      DB_PORT: '5434',
      SHUTDOWN_TIMEOUT_SECONDS: '60',
      WAREHOUSE_DB_HOST: 'warehouse.example.com',
      WAREHOUSE_DB_PORT: '5432',
    });
  });

  test('asks servers over HTTP, at paths that they have', () => {
    const served = ['console/server.ts', 'operate/serve.ts'].map((file) =>
      readFileSync(path.join(PROJECT_ROOT, 'runner', file), 'utf8'),
    );
    const probes = ['metrics', 'console'].flatMap((name) =>
      [...JSON.stringify(podNamed(objects, name).spec.containers).matchAll(/"path":"([^"]+)"/g)].map(
        ([, asked = '']) => asked,
      ),
    );
    expect(probes).toEqual(['/healthz', '/readyz', '/icon.svg', '/icon.svg']);
    for (const asked of probes)
      expect(
        served.some((text) => text.includes(`'${asked}'`)),
        asked,
      ).toBe(true);
  });

  test('has the rules of Prometheus word for word, with the labels its operator selects by', () => {
    const [rule] = objects.filter(({ kind }) => kind === 'PrometheusRule');
    expect(rule).toMatchObject({ metadata: { labels: { release: 'prometheus' } } });
    expect(rule?.spec).toEqual(parse(read('alerts.yml')));
    const plain = render({ ...VALUES, metrics: {}, console: {}, relay: {} });
    const left = plain.filter(
      ({ metadata, kind }) => /Monitor|Rule/.test(kind) || /-(console|relay)$/.test(metadata.name),
    );
    expect(left).toEqual([]);
  });

  test('takes the values that docs/kubernetes.md shows', () => {
    const page = readFileSync(path.join(PROJECT_ROOT, 'docs', 'kubernetes.md'), 'utf8');
    const [, shown = ''] = /```yaml\n([\s\S]*?)```/.exec(page) ?? [];
    expect(render(parse(shown) as object).map(({ kind }) => kind)).toEqual(objects.map(({ kind }) => kind));
  });

  test.each<[string, object, RegExp]>([
    ['a value of no such name', { image: { repository: 'x', tags: '1' } }, /additional properties 'tags' not allowed/],
    ['a misspelt setting', { settings: { ...VALUES.settings, BATCH_SIZ: 5 } }, /'BATCH_SIZ' not allowed/],
    [
      'a password among the settings',
      { settings: { ...VALUES.settings, DB_PASSWORD: 'x' } },
      /'DB_PASSWORD' not allowed/,
    ],
    ['no source', { settings: { WAREHOUSE_DB_HOST: 'x' } }, /missing property 'DB_HOST'/],
    ['no secret', { existingSecret: '' }, /existingSecret/],
    ['a console without a secret', { console: { enabled: true } }, /console\/existingSecret/],
    ['a capture of no such name', { capture: 'logs' }, /must be one of 'poll', 'log', 'both'/],
    ['a size without a unit', { changeLog: { size: '10' } }, /changeLog\/size/],
  ])('refuses %s', (_, wrong, said) => {
    const { status, stderr } = runHelm({ ...VALUES, ...wrong });
    expect([status, stderr]).toEqual([1, expect.stringMatching(said)]);
  });
});
