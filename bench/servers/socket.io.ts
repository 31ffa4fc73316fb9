import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { serve } from './harness.js';

const server = createServer();
const io = new Server(server);
const { sockets } = io.of('/');

await serve({
  server,
  path: '/socket.io/?EIO=4&transport=websocket',
  streams: () => sockets.size,
  write: (data) => io.emit('message', data),
});
