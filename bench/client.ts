// What client.c does, where there is no C compiler or no epoll. Slower, which costs the servers nothing: they wait.

import { writeSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout } from 'node:timers/promises';

const [port, path, streams, turn] = process.argv.slice(2) as [string, string, string, string];
const MARK = '~'.charCodeAt(0);
const ACKNOWLEDGE = 3;
const QUIET_MS = 50;

const request = `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAccept: text/event-stream\r\n\r\n`;
const events = new Array<number>(Number(streams)).fill(0);
let total = 0;
let due = Number(turn);
let ending = false;

for (const id of events.keys()) {
  const socket = connect({ port: Number(port), host: '127.0.0.1' });
  socket.write(request);
  socket.on('data', (bytes) => {
    let found = 0;
    for (let at = bytes.indexOf(MARK); at !== -1; at = bytes.indexOf(MARK, at + 1)) found += 1;
    events[id] = (events[id] ?? 0) + found;
    total += found;
    for (; total >= due && !ending; due += Number(turn)) writeSync(ACKNOWLEDGE, '\0');
  });
}

process.stdin.resume().on('end', async () => {
  ending = true;
  let seen = -1;
  while (seen < total) {
    seen = total;
    await setTimeout(QUIET_MS);
  }
  console.log(total, Math.min(...events), Math.max(...events));
  process.exit();
});
