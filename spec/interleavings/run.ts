import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from 'redis';
import { RedisServer } from '../support/redis.js';
import { cleanup } from '../support/server.js';
import { type Place, playAlone } from './alone.js';
import { play, type Stage } from './play.js';

/** What many interleavings came to. */
export interface Result {
  readonly runs: number;
  /** How often each thing happened. */
  readonly tally: Record<string, number>;
  readonly anomalies: readonly string[];
}

type Play = (seed: number, lane: number) => Promise<Record<string, number>>;

const LANES = 8;
// More of them say nothing more.
const ENOUGH = 20;

/** Plays interleavings on one hub, from a seed on. */
export async function runAlone(seed: number, runs: number): Promise<Result> {
  const { place } = await open();
  return runAll(seed, runs, (one) => playAlone(one, place));
}

/** Plays interleavings on several hubs, from a seed on. Each lane has a Redis of its own, which fails for no other. */
export async function runTogether(seed: number, runs: number): Promise<Result> {
  const { place, folder } = await open();
  const stages = await Promise.all(
    Array.from({ length: LANES }, async (_, lane): Promise<Stage> => {
      const path = join(folder, `redis${lane}`);
      const redis = await RedisServer.start({ args: ['--unixsocket', path] });
      const client = (database: number) => createClient({ database, socket: { path, tls: false } }) as never;
      return { ...place, redis, client: client(0), foreign: client(1) };
    }),
  );
  return runAll(seed, runs, (one, lane) => play(one, stages[lane] as Stage));
}

async function runAll(seed: number, runs: number, playOne: Play): Promise<Result> {
  const tally: Record<string, number> = {};
  const anomalies: string[] = [];
  let next = seed;
  const playOn = async (_: unknown, lane: number) => {
    while (next < seed + runs && anomalies.length < ENOUGH) {
      const own = next++;
      try {
        for (const [key, count] of Object.entries(await playOne(own, lane))) {
          tally[key] = (tally[key] ?? 0) + count;
        }
      } catch (error) {
        anomalies.push(`SEED=${own} may make it fail again: ${(error as Error).message}`);
      }
    }
  };
  await Promise.all(Array.from({ length: LANES }, playOn));
  return { runs: next - seed, tally, anomalies };
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
