import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { serve } from './harness.js';

const server = createServer();
// Its clients would have to answer a ping in the middle of a longer round.
const io = new Server(server, { pingInterval: 3_600_000 });
const { sockets } = io.of('/');

await serve({
  server,
  path: '/socket.io/?EIO=4&transport=websocket',
  streams: () => sockets.size,
  write: (data) => io.emit('message', data),
});
