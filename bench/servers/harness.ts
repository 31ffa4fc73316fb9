import { once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import type { Load } from '../cases.js';

/** What the harness has to know of a server. */
export interface Served {
  server: Server;
  /** Where a stream is opened by GET. */
  path: string;
  /** Streams open now. */
  streams(): number;
  /** Sends an event to all streams. */
  write(data: string): void;
  /** The same, where an outcome can be asked for. Rejects unless every stream got it. */
  send?(data: string): Promise<void>;
}

// The byte that the client counts: in each event once, and in nothing else that a server sends.
const MARK = '~';

/**
 * Puts a server under load, in a process of its own, and measures the CPU that the process takes.
 * Stdin brings a byte from the client when all of a turn has arrived; stdout takes `{ port, path }`, then `{ cpu }`
 * in microseconds.
 */
export async function serve(served: Served): Promise<void> {
  const { bytes, streams, burst, warmup, turns, outcome } = JSON.parse(process.argv[2] as string) as Load & {
    outcome?: true;
  };
  const { server, path } = served;
  const write = outcome ? served.send : served.write;
  if (write === undefined) throw new Error('This server tells no outcome.');
  const data = MARK.padEnd(bytes, 'the quick brown fox jumps over the lazy dog ');

  // Whoever started this process is gone: however that came about, nothing is left behind.
  process.stdin.resume().on('end', () => process.exit());

  server.listen({ port: 0, host: '127.0.0.1', backlog: streams });
  await once(server, 'listening');
  say({ port: (server.address() as AddressInfo).port, path });
  while (served.streams() < streams) await setTimeout(10);

  // Never the next turn before the last has arrived everywhere: fan-outs that overlap would merge.
  const run = async (count: number) => {
    for (let turn = 0; turn < count; turn += 1) {
      const written = Array.from({ length: burst }, () => write(data));
      await once(process.stdin, 'data');
      await Promise.all(written);
    }
  };
  await run(warmup);
  const before = process.cpuUsage();
  await run(turns);
  const { user, system } = process.cpuUsage(before);
  say({ cpu: user + system });
}

function say(message: object): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}
