import type { Database, Transaction } from '../../runner/base/database.js';

/** What <history>_diff and <history>_changes tell is compared with what <history>_as_of shows at both moments, and with the versions in their order. */

export interface Compared {
  /** The history table, as SQL names it, and its functions. */
  readonly history: string;
  readonly keys: readonly string[];
  /** Its tracked and untracked columns. */
  readonly columns: readonly string[];
  /** A table with its versions, by default the history itself: Citus does not plan every query over a history that it distributes. */
  readonly versions?: string;
}

const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;
const literal = (name: string) => `'${name.replaceAll("'", "''")}'`;
const beside = (history: string, ending: string) =>
  history.endsWith('"') ? `${history.slice(0, -1)}${ending}"` : `${history}${ending}`;

/** Moments of the history, those at which something happens, and some pairs of them. */
const PAIRS = (history: string) => `
  moment as (
    select distinct m.moment from (
      select valid_from as moment from ${history} union all select valid_to from ${history}
      union all select valid_from - interval '1 microsecond' from ${history} union all select 'infinity' union all select '-infinity'
    ) as m where m.moment is not null
  ),
  pair as (
    select f.moment as from_moment, t.moment as to_moment
    from moment as f join moment as t on t.moment > f.moment
    order by (f.moment, t.moment) = ('-infinity', 'infinity') desc, md5(f.moment::text || t.moment::text)
    limit 12
  )`;

/** Rows that only one of the function and what it should tell has, as text. */
async function differences(sql: Database | Transaction, told: string, meant: string, pairs: string): Promise<string[]> {
  const rows = await sql.unsafe<{ difference: string }[]>(`
    with ${pairs}, told as (${told}), meant as (${meant})
    select 'told: ' || d::text as difference from (table told except all table meant) as d
    union all
    select 'meant: ' || d::text from (table meant except all table told) as d`);
  return rows.map(({ difference }) => difference);
}

export async function wrongDifferences(
  sql: Database | Transaction,
  { history, keys, columns }: Compared,
): Promise<string[]> {
  const asOf = beside(history, '_as_of');
  const same = keys.map((key) => `"<b>".${quoted(key)} = "<a>".${quoted(key)}`).join(' and ');
  const names = `array[${columns.map(literal).join(', ')}]::text[]`;
  return differences(
    sql,
    `select p.*, d.what, d.changed, d.before::text, d.after::text
     from pair as p cross join lateral ${beside(history, '_diff')}(p.from_moment, p.to_moment) as d`,
    `select p.*, w.what, w.changed, s.before::text, s.after::text
     from pair as p
     cross join lateral (
       select "<b>" as before, "<a>" as after, to_json("<b>") as was, to_json("<a>") as is_now
       from ${asOf}(p.from_moment) as "<b>" full join ${asOf}(p.to_moment) as "<a>" on ${same}
     ) as s
     cross join lateral (
       select case when s.was is null then 'created' when s.is_now is null then 'deleted' else 'updated' end as what,
         case when s.was is not null and s.is_now is not null then
           array(select n from unnest(${names}) with ordinality as u (n, place) where s.was ->> n is distinct from s.is_now ->> n order by place)
         end as changed
     ) as w
     where w.changed is distinct from '{}'`,
    PAIRS(history),
  );
}

export async function wrongChanges(
  sql: Database | Transaction,
  { history, keys, columns, versions = history }: Compared,
): Promise<string[]> {
  const names = `array[${columns.map(literal).join(', ')}]::text[]`;
  const partition = keys.map((key) => `"<h>".${quoted(key)}`).join(', ');
  return differences(
    sql,
    `select p.*, d.what, d.happened_at, d.changed, d.before::text, d.after::text,
       case when d.what = 'deleted' then null else (d.batch_id, d.change_line, d.captured_at)::text end, d.applied_at is not null
     from pair as p cross join lateral ${beside(history, '_changes')}(p.from_moment, p.to_moment) as d`,
    `select p.*, w.what, w.happened_at,
       case when w.what = 'updated' then
         array(select n from unnest(${names}) with ordinality as u (n, place)
           where to_json(w.before) ->> n is distinct from to_json(w.after) ->> n order by place)
       end, w.before::text, w.after::text, w.who, true
     from pair as p
     join (
       select case when v.before is null then 'created' else 'updated' end as what, (v.this).valid_from as happened_at,
         v.before, v.this as after, ((v.this).batch_id::text, (v.this).change_line, (v.this).captured_at)::text as who
       from (
         select "<h>" as this, case when lag("<h>".valid_to) over k = "<h>".valid_from then lag("<h>") over k end as before
         from ${versions} as "<h>" window k as (partition by ${partition} order by "<h>".valid_from)
       ) as v
       union all
       select 'deleted', (v.this).valid_to, v.this, null, null
       from (
         select "<h>" as this, lead("<h>".valid_from) over k as next
         from ${versions} as "<h>" window k as (partition by ${partition} order by "<h>".valid_from)
       ) as v
       where (v.this).valid_to is distinct from v.next and (v.this).valid_to is not null
     ) as w on w.happened_at > p.from_moment and w.happened_at <= p.to_moment`,
    PAIRS(versions),
  );
}
