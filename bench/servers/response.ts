// Reference: an event stream as one writes it by hand, with nothing but node:http or a route of Express.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import express from 'express';
import { serve, variant } from './harness.js';

const streams = new Set<ServerResponse>();
let id = 0;

const app = express();
app.get('/channels/:chan_id', open);

await serve({
  server: createServer(variant === 'express' ? app : open),
  path: variant === 'express' ? '/channels/0' : '/',
  streams: () => streams.size,
  write: (data) => {
    id += 1;
    const frame = Buffer.from(`id: ${id}\ndata: ${data}\n\n`);
    for (const stream of streams) stream.write(frame);
  },
});

function open(_request: IncomingMessage, response: ServerResponse): void {
  if (variant === 'wrapped') response.write = response.write.bind(response);
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
  response.flushHeaders();
  streams.add(response);
}
