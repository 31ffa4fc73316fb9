import { createServer } from 'node:http';
import { createChannel, createSession } from 'better-sse';
import express from 'express';
import { serve } from './harness.js';

const channel = createChannel();
const app = express();
app.get('/events', async (request, response) => {
  channel.register(await createSession(request, response));
});

await serve({
  server: createServer(app),
  path: '/events',
  streams: () => channel.sessionCount,
  write: (data) => channel.broadcast(data),
});
