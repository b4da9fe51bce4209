import type { DatabaseSettings, Settings } from '../../runner/base/settings.js';

/** TEST_ROLES=1: pipelines run under the roles of "tidemark grants", over verified TLS, on embedded servers that take nothing else. */
export const WITH_ROLES = process.env.TEST_ROLES === '1';

/** The roles that pipelines run under, by the names of their users; each has its name for a password. */
export const ROLES = { source: 'suite_reader', warehouse: 'suite_loader' } as const;

/** Who migrates, verifies and rebuilds. */
export const OWNER = 'suite_owner';

/** Whoever writes to the source and makes its tables, and who grants the roles: none of them, so it may do anything. */
export const APPLICATION = 'suite_application';

/** With TEST_ROLES=1, what runs is no superuser, while the test that looks at it is. */
export const underRole = (settings: DatabaseSettings): DatabaseSettings =>
  WITH_ROLES ? as(ROLES[settings.role], settings) : settings;

/** The same for what only the owner of the warehouse may do; settings of another user than the loader stay as they are. */
export const asOwner = (settings: DatabaseSettings): DatabaseSettings =>
  settings.user === ROLES.warehouse ? as(OWNER, settings) : settings;

/** Settings of who migrates, verifies and rebuilds. */
export const owning = (settings: Settings): Settings => ({ ...settings, warehouse: asOwner(settings.warehouse) });

const as = (user: string, settings: DatabaseSettings): DatabaseSettings => ({ ...settings, user, password: user });

const OWNERS = ['migrate', 'demo', 'verify-log', 'rebuild', 'table', 'forget', 'events'];
/** What starts a simulator gives it its own settings, whatever else it starts. */
const APPLICATIONS = ['demo', 'simulate', '--simulate', 'restart', 'grants'];
const SUPERUSERS = ['grants'];

/** The environment of a command, under the role that docs/operations.md gives it; one that names other users than the suite's stays as it is. */
export function environmentFor(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const isOne = (commands: readonly string[]) => args.some((each) => commands.includes(each));
  const [writer, migrator] = [
    isOne(APPLICATIONS) ? APPLICATION : undefined,
    isOne(SUPERUSERS) ? APPLICATION : isOne(OWNERS) ? OWNER : undefined,
  ];
  return {
    ...env,
    ...(writer !== undefined && env.DB_PASSWORD === ROLES.source ? { DB_USER: writer, DB_PASSWORD: writer } : {}),
    ...(migrator !== undefined && env.WAREHOUSE_DB_PASSWORD === ROLES.warehouse
      ? { WAREHOUSE_DB_USER: migrator, WAREHOUSE_DB_PASSWORD: migrator }
      : {}),
  };
}
