import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from 'redis';
import type { Excuses } from './interleavings/judge.js';
import { play, type Stage, type Tally } from './interleavings/play.js';
import { RedisServer } from './support/redis.js';
import { SCALE } from './support/scale.js';
import { cleanup } from './support/server.js';

// What every client of every hub was told must be what was written, from where its stream says that it starts: no loss,
// no double, no reorder, and no gap that is none; however late each step of the way between two hubs comes.
describe('Generated interleavings of publish, join and replay on several hubs, with delays at each step', () => {
  const RUNS = Math.ceil(200 * SCALE);
  const AT_ONCE = 24;

  it(`are ${RUNS} times without an anomaly`, async function () {
    this.timeout(60_000 * Math.max(SCALE, 1));
    const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 28));
    const stage = await open();
    const sum: Record<string, number> = {};
    const anomalies: Error[] = [];
    let next = seed;
    const playOn = async () => {
      while (next < seed + RUNS && anomalies.length < 20) {
        const own = next++;
        try {
          add(sum, await play(own, stage));
        } catch (cause) {
          anomalies.push(
            new Error(`SEED=${own} may make it fail again: ${(cause as Error).message}`, { cause }),
          );
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, playOn));
    if (process.env.TALLY) console.log(JSON.stringify({ seed, ...sum }));
    if (anomalies.length > 0)
      throw new AggregateError(anomalies, anomalies.map((one) => one.message).join('\n'));
  });

  async function open(): Promise<Stage> {
    const folder = mkdtempSync(join(tmpdir(), 'express-comet-interleavings-'));
    cleanup(() => rmSync(folder, { recursive: true, force: true }));
    const path = join(folder, 'redis');
    await RedisServer.start({ args: ['--unixsocket', path] });
    const hubs: Stage['hubs'] = new Map();
    const server = createServer((request, response) => {
      const [, hub = '', rest] = /^\/([^?]*)(.*)$/.exec(request.url ?? '') ?? [];
      request.url = `/${rest}`;
      hubs.get(hub)?.(request, response);
    });
    server.listen(join(folder, 'hubs'));
    await once(server, 'listening');
    cleanup(() => {
      server.closeAllConnections();
      server.close();
    });
    return {
      client: createClient({ socket: { path, tls: false } }) as never,
      server: join(folder, 'hubs'),
      hubs,
    };
  }
});

function add(sum: Record<string, number>, { excuses, ...tally }: Tally): void {
  for (const [key, count] of Object.entries({ ...tally, ...(excuses as Excuses) })) {
    sum[key] = (sum[key] ?? 0) + count;
  }
}
