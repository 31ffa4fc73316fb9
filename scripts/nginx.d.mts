import type { Server } from './debian.mjs';

export function findNginx(env?: NodeJS.ProcessEnv): Server;
export function unpackNginx(): Server;
