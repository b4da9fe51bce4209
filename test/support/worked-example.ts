import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import type { Database } from '../../runner/base/database.js';
import { apply, batch, change } from './batches.js';

/** The worked example of sample_data: three orders, then the change of the first, which was captured before the others were made. */
export async function applyWorkedExample(warehouse: Database): Promise<void> {
  const order = (id: number, product_id: number, quantity: number, unit_price: number, total: number, time: string) =>
    change(id, 'pending', time, {
      customer_id: 100 + id,
      product_id,
      quantity,
      unit_price,
      total_amount: total,
      order_date: `2026-02-01T${time}:00`,
      created_at: `2026-02-01T${time}:00`,
    });
  await apply(warehouse, batch('first', '09:05', [order(1, 201, 2, 29.99, 59.98, '09:00')]));
  await apply(warehouse, await readFile(path.join(PROJECT_ROOT, 'sample_data', 'cdc_changes.json'), 'utf8'));
  const others = [order(2, 202, 1, 49.99, 49.99, '09:15'), order(3, 203, 3, 19.99, 59.97, '09:30')];
  await apply(warehouse, batch('last', '09:35', others));
}
