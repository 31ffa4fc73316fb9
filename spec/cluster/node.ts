// One node, as a process: it can be killed and stopped, and its driver hears of each write that it made.

import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createClient } from 'redis';
import { redis } from '../../lib/engines/redis/redis.js';
import { type Comet, comet, Deferred, type Outcome } from '../../lib/index.js';
import { Random } from '../support/random.js';
import {
  CHANNEL_NAMES,
  CHANNELS,
  type Command,
  type Mark,
  type Note,
  now,
  type Pace,
  type Report,
  TIMES,
} from './messages.js';

const MAY_SETTLE_AFTER = 20;

class NodeProcess {
  readonly #name: string;
  readonly #push: Comet;
  #written = 0;
  #listeners = 0;
  #timer: NodeJS.Timeout | undefined;
  #notes: Note[] = [];
  readonly #open = new Set<string>();
  #allSettled: (() => void) | undefined;

  constructor({ name, redis: port }: Extract<Command, { do: 'start' }>) {
    this.#name = name;
    const client = createClient({ url: `redis://127.0.0.1:${port}` });
    this.#push = comet({
      node: name,
      backplane: redis({ client, lease: TIMES.lease }),
      deadline: TIMES.deadline,
      queue: { wait: TIMES.wait },
      retry: [5, 40],
      heartbeat: 200,
    });
    for (const id of CHANNEL_NAMES) this.#push.channels.open(id, { log: { frames: CHANNELS[id] } });
    this.#listen();
  }

  async serve(): Promise<void> {
    const server = createServer(this.#push).listen(0, '127.0.0.1');
    await once(server, 'listening');
    tell({ kind: 'up', port: (server.address() as AddressInfo).port });
  }

  pace({ seed, every, burst, asks }: Pace): void {
    const random = new Random(seed);
    clearInterval(this.#timer);
    this.#timer = setInterval(() => {
      const count = 1 + random.below(burst);
      for (let index = 0; index < count; index += 1) {
        const channel = random.pick(CHANNEL_NAMES);
        const filler = 'x'.repeat(random.below(200));
        if (random.next() < asks) void this.#send(channel, filler, random.next() < 0.5);
        else this.#write(channel, filler);
      }
    }, every);
  }

  async calm(): Promise<void> {
    clearInterval(this.#timer);
    let health = await this.#push.health();
    while (!health.healthy || health.queued > 0) health = await this.#push.health();
    if (this.#open.size > 0) {
      await new Promise<void>((resolve) => {
        this.#allSettled = resolve;
      });
    }
    globalThis.gc?.();
    this.#pass();
    tell({ kind: 'calm', heap: process.memoryUsage().heapUsed });
  }

  async mark(): Promise<void> {
    const marks = CHANNEL_NAMES.map(async (channel): Promise<Mark> => {
      const { token, outcome } = this.#send(channel, '', true);
      return { token, channel, outcome: await outcome };
    });
    const all = await Promise.all(marks);
    this.#pass();
    tell({ kind: 'marked', marks: all });
  }

  #listen(): void {
    const push = this.#push;
    // The name of the event is the token, so that all that is told of a write tells which one it was.
    push.on('write', ({ event: token, channel, position }) => {
      this.#note({ is: 'accepted', token, channel, position });
    });
    push.on('drop', ({ event: token, happened }) => this.#note({ is: 'dropped', token, happened }));
    push.on('error', (error) => this.#note({ is: 'wrong', text: `it told an error: ${error}` }));
    const count = (change: number) => {
      this.#listeners += change;
      tell({ kind: 'listeners', count: this.#listeners });
    };
    push.on('join', () => count(1));
    push.on('leave', () => count(-1));
  }

  #write(channel: string, filler: string): void {
    const token = this.#token(channel, false);
    this.#push.channels.open(channel).write(`${token} ${filler}`, { event: token });
  }

  #send(channel: string, filler: string, perNode: boolean): { token: string; outcome: Promise<Outcome> } {
    const token = this.#token(channel, true);
    this.#open.add(token);
    const deferred = new Deferred<Outcome>();
    let isWriting = true;
    const resolve = (outcome: Outcome) => {
      if (isWriting) this.#note({ is: 'wrong', text: `${token} settled inside its write` });
      this.#note({ is: 'settled', token, at: now(), outcome });
      this.#open.delete(token);
      deferred.resolve(outcome);
      // Before it is said to have settled, it is waited whether it settles again.
      if (this.#open.size === 0) setTimeout(() => this.#settled(), MAY_SETTLE_AFTER);
    };
    this.#push.channels
      .open(channel)
      .write(`${token} ${filler}`, { event: token, outcome: { resolve }, perNode });
    isWriting = false;
    return { token, outcome: deferred.promise };
  }

  #settled(): void {
    if (this.#open.size === 0) this.#allSettled?.();
  }

  #token(channel: string, asks: boolean): string {
    this.#written += 1;
    const token = `${this.#name}:${this.#written}`;
    this.#note({ is: 'written', token, channel, at: now(), asks });
    return token;
  }

  #note(note: Note): void {
    if (this.#notes.length === 0) setImmediate(() => this.#pass());
    this.#notes.push(note);
  }

  #pass(): void {
    if (this.#notes.length === 0) return;
    tell({ kind: 'notes', notes: this.#notes });
    this.#notes = [];
  }
}

let node: NodeProcess | undefined;

function tell(report: Report): void {
  // The driver may be gone; then so is this process, in a moment.
  if (process.connected) process.send?.(report);
}

process.on('disconnect', () => process.exit());
process.on('message', (command: Command) => {
  if (command.do === 'start') {
    node = new NodeProcess(command);
    void node.serve();
  } else if (command.do === 'write') node?.pace(command.pace);
  else void node?.[command.do]();
});
tell({ kind: 'ready' });
