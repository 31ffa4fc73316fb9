// Reference: an event stream as one writes it by hand, with nothing but node:http.

import { createServer, type ServerResponse } from 'node:http';
import { serve } from './harness.js';

const streams = new Set<ServerResponse>();
let id = 0;

await serve({
  server: createServer((_request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
    response.flushHeaders();
    streams.add(response);
  }),
  path: '/',
  streams: () => streams.size,
  write: (data) => {
    id += 1;
    const frame = Buffer.from(`id: ${id}\ndata: ${data}\n\n`);
    for (const stream of streams) stream.write(frame);
  },
});
