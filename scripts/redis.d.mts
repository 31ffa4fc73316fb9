import type { Server } from './debian.mjs';

export function findRedis(env?: NodeJS.ProcessEnv): Server;
export function unpackRedis(): Server;
