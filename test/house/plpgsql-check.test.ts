import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect, type Database } from '../../runner/base/database.js';
import { migrateWarehouse } from '../../runner/warehouse/migrate.js';
import { registerTables } from '../support/properties.js';
import { createWarehouseDatabase } from '../support/databases.js';
import { findInstallation, startScratchServer } from '../support/plpgsql-check-server.js';

const SKIPPED =
  'plpgsql_check is not installed, so the functions are not analysed. On Debian and Ubuntu: apt install postgresql-15-plpgsql-check (or -16, -17, -18)';

let warehouse: Database | undefined;
let close: () => Promise<void> = () => Promise.resolve();

/** A migrated warehouse on a server that has plpgsql_check: the server of the run, else one that the machine has installed. */
beforeAll(async () => {
  const own = await createWarehouseDatabase();
  close = own.drop;
  warehouse = own.sql;
  if (!(await hasExtension(own.sql))) {
    await own.drop();
    close = () => Promise.resolve();
    warehouse = await startElsewhere();
  }
  await warehouse?.unsafe('create extension plpgsql_check schema public');
  if (warehouse === undefined) process.stderr.write(`\nSKIPPED: ${SKIPPED}\n\n`);
}, 240_000);

afterAll(() => close());

/** Only a superuser may create it. */
async function hasExtension(sql: Database): Promise<boolean> {
  const found = await sql`
    select 1
    from pg_available_extensions as e
    join pg_roles as r on r.rolname = current_user
    where e.name = 'plpgsql_check' and r.rolsuper`;
  return found.length > 0;
}

async function startElsewhere(): Promise<Database | undefined> {
  const installation = await findInstallation();
  if (installation === undefined) return undefined;
  const server = await startScratchServer(installation);
  close = server.stop;
  await migrateWarehouse(server.settings);
  const sql = connect(server.settings, 'test');
  close = async () => {
    await sql.end({ timeout: 1 });
    await server.stop();
  };
  return sql;
}

/** What only Citus has: functions that name it would be found to ask for what is not there. */
const OF_CITUS =
  'pg_dist_(partition|shard|local_group)|create_distributed_function|lock_shard_metadata|run_command_on_(all_nodes|workers)';

/**
 * What plpgsql_check finds in every PL/pgSQL function of schema tidemark, one line a finding. Statements made at run time it cannot see, and
 * functions that name what only Citus has are left out.
 */
async function findings(sql: Database): Promise<string[]> {
  const rows = await sql<{ finding: string }[]>`
    select concat_ws(' ', p.oid::regprocedure::text, 'line ' || c.lineno, c.level || ':', c.message, c.detail, c.hint) as finding
    from pg_catalog.pg_proc as p
    join pg_catalog.pg_language as l on l.oid = p.prolang
    cross join lateral public.plpgsql_check_function_tb(
      p.oid, relid => case p.prorettype when 'trigger'::regtype then 'public.dim_orders_history'::regclass else 0 end,
      fatal_errors => false, other_warnings => true, extra_warnings => true, performance_warnings => false
    ) as c
    where p.pronamespace = 'tidemark'::regnamespace and l.lanname = 'plpgsql' and p.prosrc !~ ${OF_CITUS}
    order by 1`;
  return withoutUnknownRecords(rows.map(({ finding }) => finding));
}

/**
 * Where a statement made at run time fills a record, plpgsql_check takes the record for never assigned and what comes after for never reached,
 * and says itself that these alarms may be false. They are left out; what else it finds in such a function counts.
 */
function withoutUnknownRecords(all: readonly string[]): string[] {
  const functionOf = (finding: string) => finding.slice(0, finding.indexOf(')'));
  const dynamic = new Set(
    all.filter((finding) => /cannot (to determine|determinate a) result of dynamic SQL/.test(finding)).map(functionOf),
  );
  const related =
    /cannot (to determine|determinate a) result of dynamic SQL|record "\w+" is not assigned yet|never read variable "v_\w+"|unused parameter/;
  return all.filter((finding) => !dynamic.has(functionOf(finding)) || !related.test(finding));
}

describe('plpgsql_check', () => {
  test('finds nothing in the functions of schema tidemark, those that are compiled for a dimension among them', async ({
    skip,
  }) => {
    if (warehouse === undefined) skip(SKIPPED);
    else {
      // Dimensions with untracked columns, one in either order.
      await registerTables(warehouse);
      expect(await findings(warehouse)).toEqual([]);
      const [compiled] = await warehouse`
        select count(*) as functions
        from pg_catalog.pg_proc as p
        where p.pronamespace = 'tidemark'::regnamespace and p.proname ~ '^(apply|converge|known)_(orders|by_capture|by_time)$'`;
      expect(compiled).toEqual({ functions: '9' });
    }
  });

  test('would find a misspelt column, an unused variable and a missing function', async ({ skip }) => {
    if (warehouse === undefined) skip(SKIPPED);
    else
      expect(
        await findingsOf(
          warehouse,
          `
      create function tidemark._broken() returns bigint language plpgsql stable as $$
      declare
        v_unused integer;
      begin
        perform tidemark._no_such_function();
        return (select b.batch_idd from tidemark.batches as b);
      end;
      $$`,
        ),
      ).toEqual([
        expect.stringContaining('v_unused') as string,
        expect.stringContaining('_no_such_function') as string,
        expect.stringContaining('batch_idd') as string,
      ]);
  });
});

/** The findings while a function exists, which is then taken back. */
async function findingsOf(sql: Database, definition: string): Promise<string[]> {
  await sql.unsafe(definition);
  try {
    return (await findings(sql)).filter((finding) => finding.includes('_broken'));
  } finally {
    await sql`drop function tidemark._broken()`;
  }
}
