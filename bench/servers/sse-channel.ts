import { createServer } from 'node:http';
import express from 'express';
import SseChannel from 'sse-channel';
import { PING_MS, serve } from './harness.js';

const channel = new SseChannel({ pingInterval: PING_MS });
const app = express();
app.get('/events', (request, response) => channel.addClient(request, response));

await serve({
  server: createServer(app),
  path: '/events',
  streams: () => channel.getConnectionCount(),
  write: (data) => channel.send({ data }),
});
