// What the documentation uses of express-sse, which comes without types.
declare module 'express-sse' {
  import type { Request, Response } from 'express';

  export default class SSE {
    constructor(initial?: readonly unknown[]);
    init(request: Request, response: Response): void;
    send(data: unknown, event?: string, id?: string): void;
    updateInit(data: readonly unknown[]): void;
  }
}
