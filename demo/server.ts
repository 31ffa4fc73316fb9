// A server with a dashboard: channels on real input, what they are doing, and trouble on demand. Start it by
// `npm start`, with `FILE=path npm start`, or as the end of a pipe. PORT is 3000 by default (0 picks a free one), HOST
// this machine only; requests are answered for HOST, `localhost` and addresses. REDIS is the URL of a server through which
// several of these are one. STALL is after how many milliseconds a client that does not read is closed.

import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Backplane } from 'express-comet';
import { makeApp } from './app.js';
import { Clients } from './clients.js';
import { Gauge } from './gauge.js';
import { Monitor } from './monitor.js';
import { Nodes } from './nodes.js';
import { watchMachine } from './sources/machine.js';
import { watchLines } from './sources/tail.js';
import { Stage } from './stage.js';

const { FILE, HOST = '127.0.0.1', PORT = '3000', REDIS, STALL = '5000' } = process.env;
const port = wholeNumber('PORT', PORT, 0, 65_535);
const stall = wholeNumber('STALL', STALL, 1, 600_000);
// Whoever read what is printed here may have gone, which is no reason to go as well.
for (const output of [process.stdout, process.stderr]) output.on('error', () => {});

const backplane = REDIS ? await reach(REDIS) : undefined;
const stage = new Stage(
  {
    // A log that holds the flood of 8 MiB, and little patience, so that what is slow is seen within seconds.
    log: { bytes: 16 * 2 ** 20 },
    retry: [800, 1600],
    stall,
    maxVirtualChannels: 24,
    maxListeners: 2000,
    backplane,
    // Said here, as several of them may run on one machine. Of a port that is yet to be found it has the machine's name.
    node: port === 0 ? undefined : `port-${port}`,
    deadline: 2000,
  },
  {
    // Of a value that changes, a newcomer gets the present one (`rewind`), and a slow reader needs only the newest
    // (`lag`), also when it comes back.
    machine: { rewind: 1, lag: 'latest' },
    // Of what was said, a newcomer gets the last ten, however old they are.
    tail: { rewind: 10, log: { age: null } },
    chat: { rewind: 10, log: { age: null } },
  },
);
const gauge = new Gauge();
stage.watch((push) => gauge.watch(push));

const server = createServer();
const sockets = new Set<Socket>();
server.on('connection', (socket) => {
  sockets.add(socket);
  socket.on('close', () => sockets.delete(socket));
});
const cut = () => {
  for (const socket of sockets) socket.destroy();
};

const clients = new Clients(stage, server, () => monitor.changed());
const nodes = stage.isShared ? new Nodes(stage, () => monitor.changed()) : undefined;
const monitor = new Monitor(stage, gauge, clients, nodes, stall);
server.on('request', makeApp({ stage, monitor, clients, cut, host: HOST }));

const sources = [
  watchMachine((sample) => {
    stage.tell('machine', sample, { event: 'sample' });
    monitor.tick(sample);
  }),
  watchLines(FILE || process.argv[2], (line) => stage.tell('tail', line, { event: 'line' })),
];

server.on('error', (error) => {
  console.error(`express-comet demo: ${error.message}`);
  process.exitCode = 1;
  void shutDown();
});
server.listen(port, HOST, () => {
  console.log(`express-comet demo: http://localhost:${(server.address() as AddressInfo).port}`);
});

process.once('SIGINT', shutDown);
process.once('SIGTERM', shutDown);

/** Stops the sources, sends every client away in order, and lets the process end by itself. */
async function shutDown(): Promise<void> {
  for (const stop of sources) stop();
  clients.sendAway();
  server.close();
  await Promise.all([stage.push.close(), monitor.stop()]);
}

async function reach(url: string): Promise<Backplane> {
  // Loaded only where it is used.
  const [{ createClient }, { redis }] = await Promise.all([import('redis'), import('express-comet/redis')]);
  try {
    return redis({ client: createClient({ url }) });
  } catch {
    console.error(
      `express-comet demo: REDIS must be a URL such as redis://127.0.0.1:6379, not ${JSON.stringify(url)}`,
    );
    process.exit(1);
  }
}

function wholeNumber(name: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= min && value <= max) return value;
  console.error(
    `express-comet demo: ${name} must be a whole number from ${min} to ${max}, not ${JSON.stringify(text)}`,
  );
  process.exit(1);
}
