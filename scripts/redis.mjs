// The Redis of the tests.

import { findServer, unpackServer } from './debian.mjs';

const REDIS = {
  names: ['redis-server', 'valkey-server'],
  variable: 'REDIS_SERVER_PATH',
  // The first is only a link to a program of the second.
  packages: ['redis-server', 'redis-tools'],
  program: 'usr/bin/redis-server',
  folder: 'redis',
  remedy: 'install Redis 7 or Valkey',
};

export const findRedis = (env = process.env) => findServer(REDIS, env);
export const unpackRedis = () => unpackServer(REDIS);
