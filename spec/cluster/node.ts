// One node, as a process: it can be killed and stopped, and its driver hears of each write that it made.

import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createClient } from 'redis';
import { redis } from '../../lib/engines/redis/redis.js';
import { type Channel, type Comet, comet, Deferred, type Outcome } from '../../lib/index.js';
import { Random } from '../support/random.js';
import {
  CHANNEL_NAMES,
  type Command,
  framesOf,
  JOB_TIMES,
  type Mark,
  type Note,
  now,
  type Pace,
  type Report,
  TIMES,
  type Times,
} from './messages.js';

type CommandOf<Do> = Extract<Command, { do: Do }>;

const MAY_SETTLE_AFTER = 20;

class NodeProcess {
  readonly #name: string;
  readonly #push: Comet;
  readonly #server: Server;
  /** The channels that this process writes on. */
  readonly #channels = new Map<string, Channel>();
  #written = 0;
  readonly #listeners = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #notes: Note[] = [];
  readonly #open = new Set<string>();
  #allSettled: (() => void) | undefined;

  constructor(name: string, port: number, opens: readonly string[], times: Times) {
    this.#name = name;
    const client = createClient({ url: `redis://127.0.0.1:${port}` });
    this.#push = comet({
      node: name,
      backplane: redis({ client, lease: times.lease }),
      deadline: times.deadline,
      queue: { wait: times.wait },
      retry: [5, 40],
      heartbeat: 200,
    });
    this.#server = createServer(this.#push);
    this.#listen();
    for (const channel of opens) this.open({ channel });
  }

  async serve(): Promise<void> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    tell({ kind: 'up', port: (this.#server.address() as AddressInfo).port });
  }

  write({ pace: { seed, every, burst, asks } }: { readonly pace: Pace }): void {
    const random = new Random(seed);
    clearInterval(this.#timer);
    this.#timer = setInterval(() => {
      const count = 1 + random.below(burst);
      for (let index = 0; index < count; index += 1) {
        const channel = random.pick(this.#names());
        const filler = 'x'.repeat(random.below(200));
        if (random.next() < asks) void this.#send(channel, filler, random.next() < 0.5);
        else this.#write(channel, filler);
      }
    }, every);
  }

  make({ channel }: { readonly channel: string }): void {
    if (this.#push.channels.find(channel) === undefined) {
      this.open({ channel });
      return;
    }
    const off = this.#push.on('end', (ended) => {
      if (ended.channel !== channel) return;
      off();
      this.make({ channel });
    });
  }

  open({ channel }: { readonly channel: string }): void {
    const isNew = this.#push.channels.find(channel) === undefined;
    this.#channels.set(channel, this.#push.channels.open(channel, { log: { frames: framesOf(channel) } }));
    if (isNew) this.#note({ is: 'made', channel, at: now() });
  }

  async end({ channel, linger, order }: CommandOf<'end'>): Promise<void> {
    this.open({ channel });
    this.#channels.get(channel)?.end({ linger });
    // The first may be answered before what waits in the queue has been sent.
    await this.#healthy();
    await this.#healthy();
    tell({ kind: 'ended', order, at: now() });
  }

  /** As code does that computes. */
  holdUp({ ms }: CommandOf<'hold up'>): void {
    const until = now() + ms;
    while (now() < until);
  }

  dismiss({ count }: CommandOf<'dismiss'>): void {
    const tokens = this.#names().map((channel) => this.#send(channel, '', true).token);
    for (const listener of [...this.#listeners].slice(0, count)) {
      this.#note({ is: 'dismissed', listener, tokens });
      this.#push.dismiss(listener);
    }
  }

  /** As an application does on SIGTERM. The process has to end by itself after that. */
  async close({ drain }: { readonly drain: number }): Promise<void> {
    clearInterval(this.#timer);
    this.#server.close();
    await this.#push.close({ drain });
    // What settles twice does so by now.
    await new Promise((resolve) => setTimeout(resolve, MAY_SETTLE_AFTER));
    if (this.#open.size > 0)
      this.#note({ is: 'wrong', text: `${[...this.#open]} did not settle by close()` });
    this.#pass();
    tell({ kind: 'closed' });
    process.removeAllListeners('message');
    process.disconnect?.();
  }

  /** What a short script does: all of it in the turn in which the hub was made. */
  async work({ writes, seed, drain }: CommandOf<'job'>): Promise<void> {
    const random = new Random(seed);
    for (let index = 0; index < writes; index += 1) {
      const channel = random.pick(this.#names());
      if (random.next() < 0.5) void this.#send(channel, '', random.next() < 0.5);
      else this.#write(channel, '');
    }
    await this.close({ drain });
  }

  async calm(): Promise<void> {
    clearInterval(this.#timer);
    await this.#healthy();
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
    const marks = this.#names().map(async (channel): Promise<Mark> => {
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
    push.on('drop', ({ event: token, happened, cause }) => {
      this.#note({ is: 'dropped', token, happened, cause: String(cause), at: now() });
    });
    push.on('backplane', ({ cause }) => {
      if (/did not answer/.test(String(cause))) this.#note({ is: 'slow', at: now() });
    });
    push.on('error', (error) => this.#note({ is: 'wrong', text: `it told an error: ${error}` }));
    push.on('end', ({ channel }) => this.#note({ is: 'over', channel, at: now() }));
    const count = () => tell({ kind: 'listeners', count: this.#listeners.size });
    push.on('join', ({ listener }) => {
      this.#listeners.add(listener);
      count();
    });
    push.on('leave', ({ listener }) => {
      this.#listeners.delete(listener);
      count();
    });
  }

  async #healthy(): Promise<void> {
    let health = await this.#push.health();
    while (!health.healthy || health.queued > 0) health = await this.#push.health();
  }

  #names(): readonly string[] {
    for (const [name, channel] of this.#channels) if (channel.ended) this.#channels.delete(name);
    return [...this.#channels.keys()];
  }

  #write(channel: string, filler: string): void {
    const token = this.#token(channel, false);
    this.#channels.get(channel)?.write(`${token} ${filler}`, { event: token });
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
    const options = { event: token, outcome: { resolve }, perNode };
    this.#channels.get(channel)?.write(`${token} ${filler}`, options);
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

function obey(command: Command): unknown {
  switch (command.do) {
    case 'start':
      node = new NodeProcess(command.name, command.redis, command.opens, { ...TIMES, lease: command.lease });
      return node.serve();
    case 'job':
      node = new NodeProcess(command.name, command.redis, CHANNEL_NAMES, JOB_TIMES);
      return node.work(command);
    case 'write':
      return node?.write(command);
    case 'make':
      return node?.make(command);
    case 'open':
      return node?.open(command);
    case 'end':
      return node?.end(command);
    case 'hold up':
      return node?.holdUp(command);
    case 'dismiss':
      return node?.dismiss(command);
    case 'close':
      return node?.close(command);
    case 'calm':
      return node?.calm();
    case 'mark':
      return node?.mark();
  }
}

process.on('disconnect', () => {
  // A process that has closed its hub has to end by itself.
  if (process.listenerCount('message') > 0) process.exit();
});
process.on('message', obey);
tell({ kind: 'ready' });
