import { createServer } from 'node:http';
import { createChannel, createSession } from 'better-sse';
import express from 'express';
import { channels, channelsOf, PING_MS, serve } from './harness.js';

const numbered = Array.from({ length: channels }, () => createChannel());
const app = express();
let sessions = 0;
app.get('/events', async (request, response) => {
  const session = await createSession(request, response, { keepAlive: PING_MS });
  for (const channel of channelsOf(request.url)) numbered[channel]?.register(session);
  sessions += 1;
});

await serve({
  server: createServer(app),
  path: '/events',
  streams: () => sessions,
  write: (data, channel) => numbered[channel]?.broadcast(data),
});
