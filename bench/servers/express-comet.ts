import { createServer } from 'node:http';
import express from 'express';
// The build, as it is published. By its path: the nearest package.json is not the one that has the public name.
import { comet } from '../../dist/esm/index.js';
import { serve } from './harness.js';

const push = comet();
const channel = push.channels.create<string>({ name: 'bench' });
const app = express();
app.use('/channels', push);

await serve({
  server: createServer(app),
  path: '/channels/bench',
  streams: () => channel.listeners,
  write: (data) => channel.write(data),
  send: async (data) => {
    const outcome = await channel.send(data);
    if (outcome.status !== 'success') throw new Error(`The outcome was ${JSON.stringify(outcome)}`);
  },
});
