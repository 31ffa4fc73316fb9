export interface Server {
  readonly path: string;
  readonly env: NodeJS.ProcessEnv;
}
