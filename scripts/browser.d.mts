export interface Browser {
  readonly path: string;
  readonly env: NodeJS.ProcessEnv;
}
export const FLAGS: readonly string[];
export function findBrowser(env?: NodeJS.ProcessEnv): Browser;
export function unpackBrowser(): Browser;
