// What the bench uses of peers that come without types.

declare module 'sse-channel' {
  import type { IncomingMessage, ServerResponse } from 'node:http';

  export default class SseChannel {
    constructor(options: { pingInterval: number });
    addClient(request: IncomingMessage, response: ServerResponse): void;
    getConnectionCount(): number;
    send(message: { data: string }): void;
  }
}

declare module 'sse-pubsub' {
  import type { IncomingMessage, ServerResponse } from 'node:http';

  export default class SSEChannel {
    constructor(options: { maxStreamDuration: number; pingInterval: number });
    subscribe(request: IncomingMessage, response: ServerResponse): void;
    getSubscriberCount(): number;
    publish(data: string): void;
  }
}
