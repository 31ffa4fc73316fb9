// Reference: the least that can be done for a write to a stream that Express has opened, one `socket.write` of a ready chunk.

import { createServer } from 'node:http';
import type { Socket } from 'node:net';
import express from 'express';
import { serve } from './harness.js';

const streams = new Set<Socket>();
let id = 0;

const app = express();
app.get('/', ({ socket }, response) => {
  response.setHeader('Content-Type', 'text/event-stream');
  response.flushHeaders();
  streams.add(socket);
});

await serve({
  server: createServer(app),
  path: '/',
  streams: () => streams.size,
  write: (data) => {
    id += 1;
    const event = `id: ${id}\ndata: ${data}\n\n`;
    const chunk = Buffer.from(`${event.length.toString(16)}\r\n${event}\r\n`);
    for (const stream of streams) stream.write(chunk);
  },
});
