import type { Server } from './debian.mjs';

export function findRedis(env?: NodeJS.ProcessEnv): Server;
export function findServers(env?: NodeJS.ProcessEnv): {
  readonly here: ReadonlyMap<string, Server>;
  readonly lacking: readonly string[];
};
export function unpackRedis(): Server;
export function unpackRedis8(): Server;
export function unpackValkey8(): Server;
