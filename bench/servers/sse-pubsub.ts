import { createServer } from 'node:http';
import express from 'express';
import SSEChannel from 'sse-pubsub';
import { PING_MS, serve } from './harness.js';

// A stream of its ends after 30 seconds, in the middle of a longer round.
const channel = new SSEChannel({ maxStreamDuration: 3_600_000, pingInterval: PING_MS });
const app = express();
app.get('/events', (request, response) => channel.subscribe(request, response));

await serve({
  server: createServer(app),
  path: '/events',
  streams: () => channel.getSubscriberCount(),
  write: (data) => channel.publish(data),
});
