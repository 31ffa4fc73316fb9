// Another environment, as a process: on another database number of the same Redis, with the same prefix and the same
// names of channels. It writes, ends channels and makes them anew. Whatever it prints is a fault: of what the cluster
// does it must see nothing. Arguments: the port of Redis, a seed.

import { createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createClient } from 'redis';
import { redis } from '../../lib/engines/redis/redis.js';
import { comet } from '../../lib/index.js';
import { Random } from '../support/random.js';
import { CHANNEL_NAMES, LONE, MORTALS, TIMES } from './messages.js';

const DATABASE = 1;
const EVERY_MS = 15;
const NAMES = [...CHANNEL_NAMES, LONE, ...MORTALS];

const [port, seed] = process.argv.slice(2).map(Number) as [number, number];
const random = new Random(seed);
const push = comet({
  node: 'foreign',
  backplane: redis({
    client: createClient({ url: `redis://127.0.0.1:${port}`, database: DATABASE }),
    lease: TIMES.lease,
  }),
});
const own = new Set<string>();
let written = 0;

push.on('end', ({ channel }) => {
  if (!own.delete(channel)) console.log(`${channel} has ended, and this environment did not end it`);
});
push.on('error', (error) => console.log(`it told an error: ${error}`));
for (const name of NAMES) push.channels.open(name);

const server = createServer(push).listen(0, '127.0.0.1', () => {
  const query = NAMES.map((name) => `chan_id=${name}`).join('&');
  listen(`http://127.0.0.1:${(server.address() as AddressInfo).port}/?${query}`);
});

setInterval(() => {
  const name = random.pick(NAMES);
  if (random.below(20) === 0) {
    own.add(name);
    push.channels.open(name).end({ linger: random.pick([0, 60_000]) });
    push.channels.open(name);
  }
  written += 1;
  push.channels.open(name).write(`foreign:${written} x`, { event: `foreign:${written}` });
}, EVERY_MS);

process.on('disconnect', () => process.exit());
process.send?.({ kind: 'ready' });

/** Reads everything, again and again. */
function listen(url: string): void {
  const request = get(url, (response) => {
    response.setEncoding('utf8').on('error', () => {});
    response.on('data', (text: string) => {
      for (const [, token] of text.matchAll(/^event: ([\w.-]+:\d+)$/gm)) {
        if (!token?.startsWith('foreign:')) console.log(`it heard ${token}`);
      }
    });
  });
  request.on('error', () => {});
  request.on('close', () => setTimeout(() => listen(url), EVERY_MS));
}
