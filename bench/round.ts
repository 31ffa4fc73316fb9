import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Contender, Load } from './cases.js';
import { pinned, type Tools, typescript } from './tools.js';

// Of a round that takes seconds. A server that loses an event waits for it for ever.
const LIMIT_MS = 120_000;

/**
 * One round: a server in a process of its own on core 0, its clients in another on core 1.
 * Both exit when their stdin ends, so that they can't outlive this process however it ends.
 * @returns the server's CPU, user and system, in microseconds for each event that arrived
 * @throws unless the clients counted exactly what was written, on every stream
 */
export async function round(
  contender: Contender,
  load: Load,
  tools: Tools,
  flags: string[],
): Promise<number> {
  const { streams, burst, warmup, turns } = load;
  const file = fileURLToPath(import.meta.resolve(`./servers/${contender.server}`));
  const options = JSON.stringify({ ...load, outcome: contender.outcome });
  const [serverCommand, serverArguments] = pinned(tools, 0, typescript(file, [options], flags));
  const server = spawn(serverCommand, serverArguments, {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, NODE_ENV: 'production' },
  });
  const running: ChildProcess[] = [server];
  try {
    const messages = createInterface(server.stdout)[Symbol.asyncIterator]();
    const { port, path } = await said<{ port: number; path: string }>(messages);

    const targets = [port, path, streams, streams * burst].map(String);
    const [clientCommand, clientArguments] = pinned(tools, 1, tools.client(targets));
    const client = spawn(clientCommand, clientArguments, {
      // What it acknowledges goes to the server without a detour through this process.
      stdio: ['pipe', 'pipe', 'inherit', server.stdin],
    });
    running.push(client);

    const measured = await Promise.race([
      said<{ cpu: number }>(messages),
      once(client, 'exit').then(() => undefined),
      setTimeout(LIMIT_MS, undefined, { ref: false }),
    ]);
    client.stdin?.end();
    const counted = (await text(client.stdout as Readable)).trim();
    const each = (warmup + turns) * burst;
    const expected = `${each * streams} ${each} ${each}`;
    if (measured === undefined || counted !== expected) {
      throw new Error(
        `${contender.name}: the clients counted ${counted || 'nothing'}, not ${expected} ` +
          '(events in all, fewest and most on a stream)',
      );
    }
    server.stdin.end();
    await once(server, 'exit');
    return measured.cpu / (turns * burst * streams);
  } finally {
    for (const child of running) child.kill('SIGKILL');
  }
}

async function said<T>(messages: AsyncIterator<string>): Promise<T> {
  const { value, done } = await messages.next();
  if (done) throw new Error('The server ended before its round.');
  return JSON.parse(value);
}
