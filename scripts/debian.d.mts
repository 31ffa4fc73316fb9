export interface Server {
  readonly path: string;
  /** The arguments that come before those of the server. */
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}
