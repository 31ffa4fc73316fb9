import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from 'redis';
import { type Place, playAlone } from './interleavings/alone.js';
import { play } from './interleavings/play.js';
import { RedisServer } from './support/redis.js';
import { SCALE } from './support/scale.js';
import { cleanup } from './support/server.js';

type Play = (seed: number) => Promise<Record<string, number>>;

// What every client was told must be what was written on the channels of its names since it began: each event once, in
// order, or it is told of the gap. Channels end and are made anew, histories grow old, and clients come back from anywhere.
describe('Generated interleavings', () => {
  const RUNS = Math.ceil(200 * SCALE);

  it(`of writes, ends, joins and returns on one hub are ${RUNS} times without an anomaly`, async function () {
    this.timeout(180_000 * Math.max(SCALE, 1));
    const { place } = await open();
    await playAll(8, (seed) => playAlone(seed, place));
  });

  it(`of the same on several hubs, with delays at each step, are ${RUNS} times without an anomaly`, async function () {
    this.timeout(180_000 * Math.max(SCALE, 1));
    const { place, folder } = await open();
    const path = join(folder, 'redis');
    await RedisServer.start({ args: ['--unixsocket', path] });
    const client = createClient({ socket: { path, tls: false } }) as never;
    await playAll(12, (seed) => play(seed, { ...place, client }));
  });

  async function playAll(atOnce: number, playOne: Play): Promise<void> {
    const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 28));
    const sum: Record<string, number> = {};
    const anomalies: Error[] = [];
    let next = seed;
    const playOn = async () => {
      while (next < seed + RUNS && anomalies.length < 20) {
        const own = next++;
        try {
          const tally = await playOne(own);
          for (const [key, count] of Object.entries(tally)) sum[key] = (sum[key] ?? 0) + count;
        } catch (cause) {
          anomalies.push(
            new Error(`SEED=${own} may make it fail again: ${(cause as Error).message}`, { cause }),
          );
        }
      }
    };
    await Promise.all(Array.from({ length: atOnce }, playOn));
    if (process.env.TALLY) console.log(JSON.stringify({ seed, runs: next - seed, ...sum }));
    if (anomalies.length > 0)
      throw new AggregateError(anomalies, anomalies.map((one) => one.message).join('\n'));
  }

  async function open(): Promise<{ place: Place; folder: string }> {
    const folder = mkdtempSync(join(tmpdir(), 'express-comet-interleavings-'));
    cleanup(() => rmSync(folder, { recursive: true, force: true }));
    const hubs: Place['hubs'] = new Map();
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
    return { place: { server: join(folder, 'hubs'), hubs }, folder };
  }
});
