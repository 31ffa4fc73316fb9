// A server and a client in two network namespaces of their own. The client's end of the wire is taken away, so that its
// packets are dropped and nobody hears of it: no FIN, no RST. Run by `unshare`; prints what became of the listener.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { comet } from '../../lib/index.js';
import { retransmissions } from '../../lib/transport/kernel.js';

const SERVER = '10.99.0.1';
const CLIENT = '10.99.0.2';
const PORT = 8099;

const ip = (...words: string[]) => execFileSync('ip', words, { stdio: 'inherit' });

if (process.argv[2] === 'client') await client();
else await server(Number(process.argv[2]));

async function server(vanish: number): Promise<void> {
  const args = ['--net', process.execPath, ...process.execArgv, import.meta.filename, 'client'];
  const peer = spawn('unshare', args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  await once(peer, 'message');
  ip('link', 'add', 'here', 'type', 'veth', 'peer', 'name', 'there');
  ip('link', 'set', 'there', 'netns', String(peer.pid));
  ip('address', 'add', `${SERVER}/24`, 'dev', 'here');
  ip('link', 'set', 'here', 'up');

  const push = comet({ heartbeat: 100, vanish });
  const news = push.channels.create({ name: 'news' });
  const http = createServer(push).listen(PORT, SERVER);
  const joined = new Promise((resolve) => push.on('join', resolve));
  peer.send('connect');
  await joined;
  const counts = [await retransmissions()];
  const before = await news.send('heard');
  counts.push(await retransmissions());
  peer.send('vanish');
  await once(peer, 'message');

  const start = performance.now();
  // The kernel takes this, and all heartbeats after it: as far as the outcome goes, it was delivered.
  const after = await news.send('never heard');
  const reason = await new Promise((resolve) => push.on('leave', (left) => resolve(left.reason)));
  const elapsed = performance.now() - start;
  counts.push(await retransmissions());
  console.log(JSON.stringify({ reason, elapsed, before, after, counts, listeners: news.listeners }));
  peer.kill('SIGKILL');
  http.close();
  await push.close();
}

async function client(): Promise<void> {
  process.send?.('ready');
  await once(process, 'message');
  ip('address', 'add', `${CLIENT}/24`, 'dev', 'there');
  ip('link', 'set', 'there', 'up');
  const socket = connect(PORT, SERVER, () => socket.write('GET /news HTTP/1.1\r\nHost: server\r\n\r\n'));
  socket.resume();
  await once(process, 'message');
  ip('address', 'del', `${CLIENT}/24`, 'dev', 'there');
  process.send?.('gone');
}
