import { createServer } from 'node:http';
import express from 'express';
import SSE from 'express-sse';
import { serve } from './harness.js';

// By default each newcomer makes it write to all of the others: nothing, but that a thousand times.
const sse = new SSE([], { isSerialized: false });
const app = express();
app.get('/events', (request, response) => {
  sse.init(request, response);
  // Else it sends the head with the first event.
  response.flushHeaders();
});

await serve({
  server: createServer(app),
  path: '/events',
  streams: () => sse.listenerCount('data'),
  write: (data) => sse.send(data),
});
