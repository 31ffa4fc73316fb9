// nchan in one worker, beside the publisher, whose CPU does not count.

import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { findNchan } from '../nchan.js';
import { serve } from './harness.js';

const found = findNchan();
if (found === undefined) throw new Error('There is no nchan.');
const folder = mkdtempSync(join(tmpdir(), 'bench-nchan-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
const port = await freePort();
writeFileSync(join(folder, 'nginx.conf'), configuration(found.module));
// It dies with this process, however that ends.
const command = ['--pdeathsig', 'KILL', found.program, '-p', folder, '-e', 'stderr', '-c', 'nginx.conf'];
const nginx = spawn('setpriv', command, { stdio: ['ignore', 'ignore', 'inherit'] });
nginx.once('exit', () => process.exit(1));
const agent = new Agent({ keepAlive: true, maxSockets: 1 });
while (!(await answers())) await setTimeout(10);

await serve({
  server: port,
  path: '/events',
  // Its clients have their heads when they are among its subscribers.
  streams: () => Infinity,
  write: (data) => {
    const post = request({ agent, port, host: '127.0.0.1', method: 'POST', path: '/publish' });
    post.on('response', (response) => response.resume());
    post.end(data);
  },
  cpu,
});

/** Of the one process of nginx, which is its own worker. */
function cpu(): number {
  const tasks = `/proc/${nginx.pid}/task`;
  const nanoseconds = readdirSync(tasks).map((task) => readFileSync(`${tasks}/${task}/schedstat`, 'utf8'));
  return nanoseconds.reduce((sum, line) => sum + Number(line.split(' ')[0]), 0) / 1000;
}

function configuration(module: string): string {
  return `
    load_module ${module};
    daemon off;
    master_process off;
    pid nginx.pid;
    worker_rlimit_nofile 20000;
    events { worker_connections 19000; }
    http {
      access_log off;
      client_body_temp_path body;
      proxy_temp_path proxy;
      fastcgi_temp_path fastcgi;
      uwsgi_temp_path uwsgi;
      scgi_temp_path scgi;
      keepalive_requests 1000000;
      server {
        listen 127.0.0.1:${port} backlog=1024;
        location = /publish { nchan_publisher; nchan_channel_id bench; }
        location = /events { nchan_subscriber eventsource; nchan_channel_id bench; nchan_subscriber_first_message newest; }
      }
    }`;
}

async function answers(): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await setTimeout(0);
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
