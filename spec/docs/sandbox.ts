// The process in which the blocks of the pages run, so that the one that tests them needs no mending afterwards. Ports that a
// page names are its own: what listens on 3000 gets a free one, and what connects to 3000 gets there. Timers are quick.

import { once } from 'node:events';
import { createRequire } from 'node:module';
import { type AddressInfo, Server, Socket } from 'node:net';
import { pathToFileURL } from 'node:url';
import { format, inspect } from 'node:util';
import { HASTE } from './patience.js';

/** Begins a page, which ends the one before it; runs a file as the block of that number; or just answers, by a number. */
export type Order =
  | { readonly begin: true }
  | { readonly run: string; readonly block: number }
  | { readonly answer: number };

/** That it is done, and what it came to, what it prints, and what goes wrong behind it. */
export type Report =
  | { readonly done: number; readonly error: string | undefined; readonly ports: Record<string, number> }
  | { readonly block: number; readonly printed: string }
  | { readonly fault: string };

/** What a block has instead of the globals of these names. */
interface Surroundings {
  readonly console: Pick<Console, 'log' | 'info' | 'warn' | 'error'>;
  readonly setInterval: typeof globalThis.setInterval;
  readonly setTimeout: typeof globalThis.setTimeout;
}

const timers = new Set<NodeJS.Timeout>();
const servers = new Map<number, Server>();

function tell(report: Report): void {
  process.send?.(report);
}

function surroundings(block: number): Surroundings {
  const print = (...values: unknown[]) => {
    for (const printed of format(...values).split('\n')) tell({ block, printed });
  };
  const hurried = (set: (run: () => void, delay: number) => NodeJS.Timeout) => {
    return (run: (...values: unknown[]) => void, delay = 0, ...values: unknown[]) => {
      const timer = set(() => run(...values), delay / HASTE);
      timers.add(timer);
      return timer;
    };
  };
  return {
    console: { log: print, info: print, warn: print, error: print },
    setInterval: hurried(setInterval) as typeof setInterval,
    setTimeout: hurried(setTimeout) as typeof setTimeout,
  };
}

const { listen } = Server.prototype;
Server.prototype.listen = function (this: Server, ...args: unknown[]): Server {
  const [first] = args;
  const wanted = typeof first === 'object' && first !== null ? (first as { port?: unknown }).port : first;
  const port = Number(wanted ?? 0);
  if (!(port > 0)) return listen.apply(this, args as Parameters<typeof listen>);
  leave(port);
  servers.set(port, this);
  this.once('close', () => {
    if (servers.get(port) === this) servers.delete(port);
  });
  const callback = args.find((arg) => typeof arg === 'function');
  return listen.apply(this, [{ port: 0, host: '127.0.0.1' }, callback] as Parameters<typeof listen>);
} as typeof listen;

const { connect } = Socket.prototype;
Socket.prototype.connect = function (this: Socket, ...args: unknown[]): Socket {
  // What net.connect() passes on are its own arguments, in one.
  const [first] = args.flat() as unknown[];
  const options = first as { port?: unknown; host?: string };
  const server = typeof first === 'object' ? servers.get(Number(options.port)) : undefined;
  if (server !== undefined) Object.assign(options, { port: portOf(server), host: '127.0.0.1' });
  return connect.apply(this, args as Parameters<typeof connect>);
} as typeof connect;

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

function leave(port: number): void {
  const server = servers.get(port) as (Server & { closeAllConnections?: () => void }) | undefined;
  servers.delete(port);
  server?.close();
  server?.closeAllConnections?.();
}

/** As in a new process, as far as a page can tell. */
function begin(): void {
  for (const timer of timers) clearTimeout(timer);
  timers.clear();
  for (const port of [...servers.keys()]) leave(port);
  for (const signal of ['SIGINT', 'SIGTERM']) process.removeAllListeners(signal);
  const { cache } = createRequire(import.meta.url);
  const metrics = Object.values(cache).find((module) =>
    /prom-client\/index\.js$/.test(module?.filename ?? ''),
  );
  metrics?.exports.register.clear();
}

async function run(path: string, block: number): Promise<void> {
  let error: string | undefined;
  try {
    await import(pathToFileURL(path).href);
    for (const server of servers.values()) {
      if (server.address() === null)
        await Promise.race(['listening', 'close'].map((event) => once(server, event)));
    }
  } catch (thrown) {
    error = inspect(thrown);
  }
  await answer(block, error);
}

async function answer(done: number, error?: string): Promise<void> {
  // For what rejects where nobody awaits it.
  for (let turn = 0; turn < 3; turn += 1) await new Promise(setImmediate);
  const ports = Object.fromEntries(Array.from(servers, ([port, server]) => [port, portOf(server)]));
  tell({ done, error, ports });
}

process.on('uncaughtException', (error) => tell({ fault: inspect(error) }));
process.on('unhandledRejection', (error) => tell({ fault: inspect(error) }));
process.on('warning', (warning) => tell({ fault: inspect(warning) }));
process.on('disconnect', () => process.exit());
process.on('message', (order: Order) => {
  if ('begin' in order) begin();
  else if ('run' in order) void run(order.run, order.block);
  else void answer(order.answer);
});
Object.assign(globalThis, { surroundings });
