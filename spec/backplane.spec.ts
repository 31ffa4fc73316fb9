import { createClient } from 'redis';
import { redis } from '../lib/engines/redis/redis.js';
import { inProcess } from '../lib/index.js';
import { backplaneSuite } from '../lib/testing/engine-suite.js';
import { RedisServer } from './support/redis.js';

describe('The backplane of one process', () => {
  const make = async () => {
    const backplane = inProcess();
    return { backplane: () => backplane, close: async () => {} };
  };
  for (const { title, run } of backplaneSuite(make, { direct: true })) it(title, run);
});

describe('The backplane on Redis', () => {
  const make = async () => {
    const server = await RedisServer.start();
    const client = createClient({ url: server.url });
    return { backplane: (times: object) => redis({ client, ...times }), close: () => server.kill() };
  };
  for (const { title, run } of backplaneSuite(make)) it(title, run);
});
