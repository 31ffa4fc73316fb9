import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { PING_MS, serve } from './harness.js';

const server = createServer();
const io = new Server(server, { pingInterval: PING_MS });
const { sockets } = io.of('/');

await serve({
  server,
  path: '/socket.io/?EIO=4&transport=websocket',
  streams: () => sockets.size,
  write: (data) => io.emit('message', data),
});
