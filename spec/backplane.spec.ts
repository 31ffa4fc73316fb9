import { Redis } from 'ioredis';
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

const CLIENTS = {
  redis: (url: string) => createClient({ url }),
  ioredis: (url: string) => new Redis(url, { lazyConnect: true }),
};

for (const [name, clientOf] of Object.entries(CLIENTS)) {
  describe(`The backplane on Redis, by the package ${name}`, () => {
    const make = async () => {
      const server = await RedisServer.start();
      const client = clientOf(server.url);
      return { backplane: (times: object) => redis({ client, ...times }), close: () => server.kill() };
    };
    for (const { title, run } of backplaneSuite(make)) it(title, run);
  });
}
