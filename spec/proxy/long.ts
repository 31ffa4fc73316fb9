import { parseArgs } from 'node:util';
import { afterOne } from '../cluster/hooks.js';

// The long run: npx tsx spec/proxy/long.ts [--attempts 100 --silence 120]
// Nothing is scaled: the hub's defaults, nginx as docs/proxies.md has it, and two minutes in which nothing is written.

// What stands behind this needs what mocha has, or its stand-in.
const { protocols, proxied } = await import('../support/nginx.js');
const { told } = await import('../support/client.js');

const { values } = parseArgs({
  options: {
    /** How often the first event is waited for. */
    attempts: { type: 'string', default: '100' },
    /** Seconds. */
    silence: { type: 'string', default: '120' },
  },
});
const attempts = Number(values.attempts);
const silence = Number(values.silence);

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

const { push, news, nginx } = await proxied();
const faults: string[] = [];

for (const [name, listen] of attempts > 0 ? protocols : []) {
  const times: number[] = [];
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    const started = performance.now();
    const client = await listen(nginx);
    times.push(performance.now() - started);
    client.close();
  }
  times.sort((one, other) => one - other);
  const [median, most] = [times[Math.floor(attempts / 2)], times.at(-1)].map((time) => time?.toFixed(1));
  console.log(`${name}: from the request to the first event ${median} ms (median), ${most} ms at the most`);
}

const clients = await Promise.all(protocols.map(([, listen]) => listen(nginx)));
// Those of before have all gone.
while (push.inspect().listeners > clients.length) await told((handler) => push.on('leave', handler));
const reasons: string[] = [];
push.on('leave', ({ reason }) => void reasons.push(reason));
console.log(`${silence} s in which nothing is written`);
await new Promise((resolve) => setTimeout(resolve, silence * 1000));
if (reasons.length > 0) faults.push(`left: ${reasons.join(', ')}`);
const outcome = await news.send('after it');
if (outcome.status !== 'success' || outcome.listeners !== clients.length) {
  faults.push(`the outcome after it: ${JSON.stringify(outcome)}`);
}
for (const [index, client] of clients.entries()) {
  const [name] = protocols[index] ?? [];
  const messages = await client.heard(1);
  if (messages[0] !== 'after it') faults.push(`${name}: heard ${JSON.stringify(messages)}`);
  console.log(`${name}: ${client.comments.length - 1} heartbeats, and then ${JSON.stringify(messages)}`);
}

await afterOne();
for (const fault of faults) console.log(`  ${fault}`);
process.exitCode = faults.length === 0 ? 0 : 1;
