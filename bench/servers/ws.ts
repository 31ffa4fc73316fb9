import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { serve } from './harness.js';

const server = createServer();
const { clients } = new WebSocketServer({ server });

await serve({
  server,
  path: '/',
  streams: () => clients.size,
  write: (data) => {
    for (const client of clients) client.send(data);
  },
});
