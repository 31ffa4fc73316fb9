// A server with a page: channels on real input, and a box to write to them. Start it by `npm start`, with
// `FILE=path npm start`, or as the end of a pipe. PORT is 3000 by default (0 picks a free one), HOST this machine only.

import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import express, { type ErrorRequestHandler } from 'express';
import { CometError, comet } from 'express-comet';
import { type Census, watchHub } from './sources/hub.js';
import { type Sample, watchMachine } from './sources/machine.js';
import { watchLines } from './sources/tail.js';

const { FILE, HOST = '127.0.0.1', PORT = '3000' } = process.env;
if (!/^\d+$/.test(PORT) || Number(PORT) > 65_535) {
  console.error(`express-comet demo: PORT must be a whole number up to 65535, not ${JSON.stringify(PORT)}`);
  process.exit(1);
}
// Whoever read what is printed here may have gone, which is no reason to go as well.
for (const output of [process.stdout, process.stderr]) output.on('error', () => {});

const push = comet();

// Of a value that changes, a newcomer gets the present one (`rewind`), and a slow reader needs only the newest
// (`lag`). The log is longer than that: a client that comes back and finds a gap in one channel has one in all.
const machine = push.channels.create<Sample>({ name: 'machine', rewind: 1, lag: 'latest' });
const channels = push.channels.create<Census>({ name: 'channels', rewind: 1, lag: 'latest' });

// Of what was said, a newcomer gets the last ten, however old they are.
const tail = push.channels.create<string>({ name: 'tail', rewind: 10, log: { age: null } });
push.channels.create({ name: 'chat', rewind: 10, log: { age: null } });

const sources = [
  watchMachine((sample) => machine.write(sample, { event: 'sample' })),
  watchLines(FILE || process.argv[2], (line) => tail.write(line, { event: 'line' })),
  watchHub(push, (census) => channels.write(census)),
];

const app = express();

app.use((_request, response, next) => {
  response.set('Content-Security-Policy', "default-src 'self'");
  next();
});

app.use('/channels', push);

app.use(express.static(join(import.meta.dirname, 'public')));

// Everyone may write to every channel here. An application asks first who it is.
app.post('/write/:chan_id', express.json(), async (request, response) => {
  const channel = push.channels.find(request.params.chan_id);
  if (channel === undefined) {
    response.status(404).json({ error: { code: 'UNKNOWN_CHANNEL', message: 'There is no such channel.' } });
    return;
  }
  const { data, event } = request.body ?? {};
  response.json(await channel.send(data, { event }));
});

app.use(((error, _request, response, _next) => {
  const { status, code, message } = refusalOf(error);
  response.status(status).json({ error: { code, message } });
}) satisfies ErrorRequestHandler);

const server = app.listen(Number(PORT), HOST, (error) => {
  if (error === undefined) {
    console.log(`express-comet demo: http://localhost:${(server.address() as AddressInfo).port}`);
    return;
  }
  console.error(`express-comet demo: ${error.message}`);
  process.exitCode = 1;
  void shutDown();
});

process.once('SIGINT', shutDown);
process.once('SIGTERM', shutDown);

/** Stops the sources, sends every client away in order, and lets the process end by itself. */
async function shutDown(): Promise<void> {
  for (const stop of sources) stop();
  server.close();
  await push.close();
}

function refusalOf(error: unknown): { status: number; code: string; message: string } {
  if (error instanceof CometError) {
    const { code, message } = error;
    return { status: code === 'CHANNEL_ENDED' ? 409 : 400, code, message };
  }
  // A body that is not JSON, or too large: the error says by which status.
  const { status, message } = error as { status?: number; message: string };
  if (status !== undefined && status < 500) return { status, code: 'BAD_REQUEST', message };
  console.error(error);
  return { status: 500, code: 'INTERNAL', message: 'The server failed.' };
}
