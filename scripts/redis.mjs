// The Redis of the tests, and later servers, on which some of them run again.

import { spawnSync } from 'node:child_process';
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

const LIBRARIES = [
  ...[
    'libc6',
    'libgcc-s1',
    'libstdc++6',
    'libatomic1',
    'libssl3t64',
    'libjemalloc2',
    'liblzf1',
    'libsystemd0',
    'libcap2',
  ],
  ...['liblua5.1-0', 'lua-cjson', 'lua-bitop'],
];

const LATER = {
  'Redis 8': {
    names: [],
    variable: 'REDIS_8_SERVER_PATH',
    packages: ['redis-server', 'redis-tools', ...LIBRARIES],
    program: 'usr/bin/redis-server',
    folder: 'redis-8',
    release: 'trixie',
    remedy: 'install Redis 8',
  },
  'Valkey 8': {
    names: [],
    variable: 'VALKEY_8_SERVER_PATH',
    packages: ['valkey-server', 'valkey-tools', ...LIBRARIES],
    program: 'usr/bin/valkey-server',
    folder: 'valkey-8',
    release: 'trixie',
    remedy: 'install Valkey 8',
  },
};

export const findRedis = (env = process.env) => findServer(REDIS, env);
export const unpackRedis = () => unpackServer(REDIS);
export const unpackRedis8 = () => unpackServer(LATER['Redis 8']);
export const unpackValkey8 = () => unpackServer(LATER['Valkey 8']);

/** The servers on which the tests can run, by name, and the names of those that are not here. */
export function findServers(env = process.env) {
  const here = [findRedis(env)];
  const lacking = [];
  for (const [name, server] of Object.entries(LATER)) {
    try {
      here.push(findServer(server, env));
    } catch {
      lacking.push(name);
    }
  }
  return { here: new Map(here.map((server) => [versionOf(server), server])), lacking };
}

/** `Redis 7.0.15`, or `Valkey 8.1.1`. */
function versionOf({ path, args, env }) {
  const { stdout } = spawnSync(path, [...args, '-v'], { env, encoding: 'utf8' });
  const [, name, version] = /^(\w+) server v=(\S+)/.exec(stdout) ?? [];
  return `${name} ${version}`;
}
