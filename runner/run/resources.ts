import { statfsSync } from 'node:fs';
import { totalmem } from 'node:os';
import path from 'node:path';

/** getrusage counts disk traffic in blocks of this size, in bytes. */
const BLOCK = 512;

/**
 * What this process uses of its machine since it was last asked, and how full the disk of `folder` is: shares from 0 to 1 (of the
 * processor, 1 is one core), memory and disk in bytes. Traffic that the page cache serves is no disk traffic.
 */
export function measureResources(folder: string): () => Record<string, number> {
  let before = look();
  return () => {
    const now = look();
    const seconds = Math.max(0.001, (now.moment - before.moment) / 1000);
    const since = (name: 'cpu' | 'read' | 'written') => Number(((now[name] - before[name]) / seconds).toFixed(4));
    const memory = process.memoryUsage.rss();
    const measured = {
      cpu_utilization: since('cpu'), memory_bytes: memory, memory_utilization: Number((memory / totalmem()).toFixed(4)),
      disk_read_bytes_per_second: since('read'), disk_written_bytes_per_second: since('written'), ...diskOf(folder),
    };
    before = now;
    return measured;
  };
}

function look(): { moment: number; cpu: number; read: number; written: number } {
  const { userCPUTime, systemCPUTime, fsRead, fsWrite } = process.resourceUsage();
  return { moment: performance.now(), cpu: (userCPUTime + systemCPUTime) / 1_000_000, read: fsRead * BLOCK, written: fsWrite * BLOCK };
}

/** A folder that is not there yet will be on the disk of the one above it. */
function diskOf(folder: string): Record<string, number> {
  for (let place = folder; ; place = path.dirname(place)) {
    try {
      const { bsize, blocks, bfree, bavail } = statfsSync(place);
      const usable = blocks - bfree + bavail;
      return { disk_free_bytes: bavail * bsize, disk_utilization: usable === 0 ? 0 : Number(((blocks - bfree) / usable).toFixed(4)) };
    } catch {
      if (place === path.dirname(place)) return {};
    }
  }
}
