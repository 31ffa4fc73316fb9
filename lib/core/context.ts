import { AsyncResource } from 'node:async_hooks';

/**
 * The async context (AsyncLocalStorage) of the code that makes it. Timers and queues that outlive a request run in one that
 * is made with the hub. In the context of the request that happens to start them, they would show its store to what they
 * call for others, and would keep it alive.
 */
export class AsyncContext extends AsyncResource {
  constructor() {
    super('EXPRESS_COMET');
  }

  /** Calls in this context. */
  run<T>(call: () => T): T {
    return this.runInAsyncScope(call);
  }
}
