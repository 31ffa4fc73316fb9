// Reference: the least that Node can do for a write to a stream, one `socket.write` of ready bytes; or, shared, one of
// all that a turn has written.

import { createServer, type Socket } from 'node:net';
import { serve, variant } from './harness.js';

const HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n';

const streams = new Set<Socket>();
let id = 0;
let frames: Buffer[] = [];

await serve({
  server: createServer({ noDelay: true }, (socket) => {
    // The client's request comes in one piece.
    socket.once('data', () => {
      socket.write(HEAD);
      streams.add(socket);
    });
    // A client that leaves may do it by a reset.
    socket.on('error', () => socket.destroy());
  }),
  path: '/',
  streams: () => streams.size,
  write: (data) => {
    id += 1;
    const frame = Buffer.from(`id: ${id}\ndata: ${data}\n\n`);
    if (variant === 'shared') share(frame);
    else for (const stream of streams) stream.write(frame);
  },
});

function share(frame: Buffer): void {
  if (frames.push(frame) > 1) return;
  setImmediate(() => {
    const joined = Buffer.concat(frames);
    frames = [];
    for (const stream of streams) stream.write(joined);
  });
}
