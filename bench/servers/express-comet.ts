import { createServer, type ServerResponse } from 'node:http';
import express from 'express';
// The build, as it is published. By its path: the nearest package.json is not the one that has the public name.
import type { Channel } from '../../dist/esm/index.js';
import { build, channels, PING_MS, serve, variant } from './harness.js';

const { comet }: typeof import('../../dist/esm/index.js') = await import(build ?? '../../dist/esm/index.js');

const [, retained] = /^retain (\d+)$/.exec(variant ?? '') ?? [];
const log = retained ? { frames: Number(retained), bytes: 2 ** 30, age: null } : {};
const push = comet({ log, heartbeat: PING_MS, vanish: PING_MS });
const numbered = Array.from({ length: channels }, (_, id) =>
  push.channels.create<string>({ name: String(id) }),
);
for (let frame = 0; frame < Number(retained ?? 0); frame += 1) numbered[0]?.write('old'.padEnd(64, '.'));

const app = express();
if (variant === 'express response') app.use((_request, response, next) => next(wrap(response)));
app.use('/channels', push);
const alone = createServer((request, response) => {
  if (variant === 'response') wrap(response);
  push(request, response);
});
const isAlone = variant === 'http' || variant === 'response';

await serve({
  server: isAlone ? alone : createServer(app),
  path: isAlone ? '/' : '/channels',
  streams: () => push.inspect().listeners,
  write: (data, channel) => numbered[channel]?.write(data),
  send: async (data, channel) => {
    const outcome = await (numbered[channel] as Channel<string>).send(data);
    if (outcome.status !== 'success') throw new Error(`The outcome was ${JSON.stringify(outcome)}`);
  },
});

/** As any middleware may that wants to see what is written. */
function wrap(response: ServerResponse): void {
  response.write = response.write.bind(response);
}
