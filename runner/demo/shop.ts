import type { Database } from '../base/database.js';

/** Changes of the demo's customers and products that were committed. */
export interface ShopCounts {
  readonly customers: number;
  readonly products: number;
}

/** Draws numbers from 0 up to, and without, 1. */
type Draw = () => number;

const FIRST_NAMES = 'Ada, Björn, Chiara, Dilan, Emre, Fatou, Grace, Hana, Ivo, João, Kemi, Lena'.split(', ');
const LAST_NAMES = "Abara, Brandt, Costa, Dvořák, Eriksen, Fischer, García, Hughes, Ito, O'Neill".split(', ');
const CITIES = 'Aarhus, Berlin, Kraków, Lisbon, Lyon, São Paulo, Turin, Utrecht, Zürich'.split(', ');
const TITLES =
  'Teapot, Desk lamp, Notebook, Backpack, Rain coat, Headphones, Bread knife, Garden chair, Kettle, Bicycle bell'.split(
    ', ',
  );
const CATEGORIES = 'kitchen, office, garden, travel'.split(', ');
/** So many changes of orders are followed by one elsewhere in the shop: a round of ten by one of a customer and one of a product. */
const ORDERS_A_CHANGE = 5;

/** A small generator of its own, so that the same seed goes on making the same orders (mulberry32). */
export function drawFrom(seed: number): Draw {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const below = (draw: Draw, end: number) => Math.floor(draw() * end);
const oneOf = (draw: Draw, values: readonly string[]) => values[below(draw, values.length)] ?? '';

/**
 * Changes customers and products in turn, each in a transaction of its own, as often as is due.
 * @param before and `now`: how many changes of orders there were when it was last asked, and are by now
 */
export async function changeShop(source: Database, draw: Draw, before: number, now: number): Promise<ShopCounts> {
  const counts = { customers: 0, products: 0 };
  for (let turn = Math.floor(before / ORDERS_A_CHANGE) + 1; turn <= Math.floor(now / ORDERS_A_CHANGE); turn += 1) {
    if (turn % 2 === 1) counts.customers += await changeCustomer(source, draw);
    else counts.products += await changeProduct(source, draw);
  }
  return counts;
}

async function changeCustomer(source: Database, draw: Draw): Promise<number> {
  const name = `${oneOf(draw, FIRST_NAMES)} ${oneOf(draw, LAST_NAMES)}`;
  const [city, kind, place] = [oneOf(draw, CITIES), draw(), below(draw, 1_000_000)];
  if (kind < 0.4) return addCustomer(source, name, city);
  const columns =
    kind < 0.75
      ? source`city = ${city}`
      : source`loyalty_tier = case loyalty_tier when 'basic' then 'silver' else 'gold' end`;
  const changed = await source`
    update public.customers set ${columns}, updated_at = now()
    where id = (select id from public.customers order by id offset (select ${place} % greatest(count(*), 1) from public.customers) limit 1)`;
  return changed.count > 0 ? changed.count : addCustomer(source, name, city);
}

/** Numbers go on where orders expect them; of two runs that take the same one, the second adds nobody. */
async function addCustomer(source: Database, name: string, city: string): Promise<number> {
  const added = await source`
    insert into public.customers (id, full_name, email, city, updated_at, created_at)
    select 1 + coalesce(max(id), 100), ${name}, format('customer%s@example.com', 1 + coalesce(max(id), 100)), ${city}, now(), now() from public.customers
    on conflict (id) do nothing`;
  return added.count;
}

async function changeProduct(source: Database, draw: Draw): Promise<number> {
  const [title, category, kind] = [oneOf(draw, TITLES), oneOf(draw, CATEGORIES), draw()];
  const [number, place] = [1 + below(draw, 900), below(draw, 1_000_000)];
  if (kind < 0.2) return addProduct(source, title, category, number);
  // Mostly the stock moves; a price does so now and then.
  const columns =
    kind < 0.7
      ? source`stock = ${number}`
      : source`unit_price = round(unit_price * ${String(0.9 + (number % 21) / 100)}::numeric, 2)`;
  const changed = await source`
    update public.products set ${columns}, last_updated = now()
    where id = (select id from public.products order by id offset (select ${place} % greatest(count(*), 1) from public.products) limit 1)`;
  return changed.count > 0 ? changed.count : addProduct(source, title, category, number);
}

async function addProduct(source: Database, title: string, category: string, number: number): Promise<number> {
  const added = await source`
    insert into public.products (id, title, category, unit_price, attributes, stock, last_updated, created_at)
    select 1 + coalesce(max(id), 200), ${title}, ${category}, ${number}::numeric / 10, jsonb_build_object('weight_g', ${number}::integer), ${number}, now(), now()
    from public.products
    on conflict (id) do nothing`;
  return added.count;
}
