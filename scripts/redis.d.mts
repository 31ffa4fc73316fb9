export interface Redis {
  readonly path: string;
  readonly env: NodeJS.ProcessEnv;
}
export function findRedis(env?: NodeJS.ProcessEnv): Redis;
export function unpackRedis(): Redis;
