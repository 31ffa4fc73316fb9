import { once } from 'node:events';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import express from 'express';
import express4 from 'express4';
import { type Channel, type Comet, comet } from '../../lib/index.js';
import { Checker } from './checker.js';
import { type Connection, Http2Connection, type Sent } from './connection.js';
import { Peer, type Request } from './peer.js';
import {
  type ChannelPlan,
  isHolding,
  type Join,
  type Plan,
  type Step,
  type Via,
  type Write,
} from './plan.js';
import type { Attendance, Client, Figures, Line, Written } from './record.js';
import { connectionOf, prepare, WatchedServer } from './server.js';

const MiB = 2 ** 20;
// What does not end in this time never does: each schedule is bounded by times a hundredth of it.
const FOREVER_MS = 60_000;

/** What became of a schedule. */
export interface Result {
  readonly figures: Figures;
  readonly faults: readonly string[];
}

/** Runs a schedule on real sockets, and checks all that can be known of it. */
export async function run(plan: Plan): Promise<Result> {
  const machine = new Machine(plan);
  let timer: NodeJS.Timeout | undefined;
  const never = new Promise<void>((resolve) => {
    timer = setTimeout(() => {
      machine.checker.fault(`it never ended: ${machine.doing}`);
      resolve();
    }, FOREVER_MS);
  });
  await Promise.race([machine.run(), never]);
  clearTimeout(timer);
  return machine.checker;
}

let runs = 0;

class Machine {
  readonly checker: Checker;
  /** What it does now. */
  doing = 'nothing yet';
  readonly #plan: Plan;
  readonly #push: Comet;
  readonly #server: WatchedServer;
  readonly #mount: string;
  #where!: { port: number } | { path: string };

  readonly #clients: Client[] = [];
  readonly #responses = new Map<Client, ServerResponse>();
  readonly #arrivals = new Map<Client, () => void>();
  readonly #arrived = new Map<Client, Promise<void>>();
  readonly #attendances = new Map<string, Attendance>();
  readonly #sent = new Map<string, Sent>();
  #entering: Connection | undefined;
  // By the channel: one of the same name may follow it.
  readonly #lines = new Map<Channel, Line>();
  readonly #present: Channel[] = [];

  // The position of the last write: each write and each end takes the next.
  #seq = 0;
  #serial = 0;
  #opens = 0;
  // Those that have ended as well: they linger.
  readonly #named = new Map<string, Line>();
  #isWriting = false;
  #isOver = false;
  // Who listens to what; made anew when it may have changed.
  #rosters: Map<Channel, Attendance[]> | undefined;
  readonly #pending = new Set<Promise<void>>();

  constructor(plan: Plan) {
    this.#plan = plan;
    this.checker = new Checker(plan);
    const { heartbeat, stall, timeout, lifetime } = plan;
    // The last that is asked for is the next that joins: nothing is awaited between the two.
    const authorize = (request: IncomingMessage) => {
      this.#entering = connectionOf(request);
      return true;
    };
    this.#push = comet({ authorize, heartbeat, stall, timeout, lifetime, maxFrame: 64 * MiB });
    this.#mount = plan.framework.startsWith('node:') ? '' : '/channels';
    const app = this.#app();
    const listener: RequestListener = (request, response) => {
      this.#arrive(request, response);
      app(request, response);
    };
    this.#server = new WatchedServer(plan.transport, plan.protocol, listener, (sent) => this.#opened(sent));
    for (const index of plan.channels.keys()) this.#open(index);
    this.#listenToHub();
    this.#server.server.on('connection', (socket) => {
      if (this.#isOver) socket.destroy();
    });
  }

  async run(): Promise<void> {
    await this.#listen();
    for (const [index, step] of this.#plan.steps.entries()) {
      this.doing = `step ${index}, ${JSON.stringify(step).slice(0, 200)}`;
      if (this.#isAwaited(step)) {
        await this.#wait(step);
        this.#rosters = undefined;
      } else this.#act(step);
    }
    await this.#close();
    this.checker.conclude(this.#clients, [...this.#attendances.values()], [...this.#lines.values()]);
  }

  #app(): RequestListener {
    const { framework } = this.#plan;
    const push = this.#push;
    const viaOf = ({ headers }: IncomingMessage) => headers['x-via'] as Via;
    if (framework.startsWith('node:')) {
      return (request, response) => {
        prepare(request, response, viaOf(request));
        push(request, response);
      };
    }
    const app = framework === 'Express 5' ? express() : express4();
    return app
      .use((request, response, next) => {
        prepare(request, response, viaOf(request));
        next();
      })
      .use(this.#mount, push);
  }

  #listenToHub(): void {
    this.#push.on('error', (error) => this.checker.fault(`the hub told an error: ${error}`));
    this.#push.on('join', ({ listener, channels }) => {
      const lines = channels.map((name) => this.#named.get(name) as Line);
      const sent = this.#sent.get(listener);
      const attendance: Attendance = {
        id: listener,
        lines,
        joinedAt: this.#seq,
        jumped: new Set(),
        left: undefined,
        sent,
        client: this.#entering && this.#clientOf(this.#entering),
      };
      this.#attendances.set(listener, attendance);
      if (attendance.client !== undefined) this.#arrivals.get(attendance.client)?.();
    });
    this.#push.on('leave', ({ listener, reason }) => {
      const attendance = this.#attendances.get(listener) as Attendance;
      if (attendance.left !== undefined) this.checker.fault(`a listener left twice: ${reason}`);
      attendance.left = reason;
    });
    this.#push.on('overrun', ({ listener, channel, lag }) => {
      const { lines, jumped } = this.#attendances.get(listener) as Attendance;
      const line = lines.find(({ name }) => name === channel);
      if (line === undefined) this.checker.fault(`an overrun on ${channel}, which it does not listen to`);
      else if (lag === 'latest') jumped.add(line);
      if (line !== undefined && line.plan.lag !== lag) this.checker.fault(`an overrun of lag ${lag}`);
    });
  }

  #arrive(request: IncomingMessage, response: ServerResponse): void {
    const client = this.#clients[Number(request.headers['x-peer'])];
    if (client === undefined) return;
    const connection = connectionOf(request);
    client.connection = connection;
    client.peer.onCut = (isReset) => connection?.cut(isReset);
    this.#responses.set(client, response);
  }

  #opened(sent: Sent): void {
    this.#sent.set(sent.listener, sent);
    const attendance = this.#attendances.get(sent.listener);
    if (attendance !== undefined) attendance.sent = sent;
  }

  #clientOf(connection: Connection): Client | undefined {
    return this.#clients.find((client) => client.connection === connection);
  }

  async #listen(): Promise<void> {
    runs += 1;
    const path =
      process.platform === 'win32'
        ? `\\\\?\\pipe\\comet-${process.pid}-${runs}`
        : join(tmpdir(), `comet-${process.pid}-${runs}.sock`);
    const { server } = this.#server;
    if (this.#plan.transport === 'unix') server.listen(path);
    else server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address() as AddressInfo | string;
    this.#where = typeof address === 'string' ? { path: address } : { port: address.port };
  }

  #isAwaited(step: Step): boolean {
    return ['turns', 'pause', 'arrival', 'outcomes'].includes(step.do);
  }

  async #wait(step: Step): Promise<void> {
    if (step.do === 'turns') {
      for (let turn = 0; turn < step.turns; turn += 1) await new Promise(setImmediate);
    } else if (step.do === 'pause') await new Promise((resolve) => setTimeout(resolve, step.ms));
    else if (step.do === 'outcomes') await Promise.all(this.#pending);
    else if (step.do === 'arrival') await this.#arrived.get(this.#clients[step.peer] as Client);
  }

  #act(step: Step): void {
    switch (step.do) {
      case 'join':
        this.#join(step);
        break;
      case 'write':
        this.#write(step);
        break;
      case 'appetite':
        this.#peer(step.peer).appetite = step.appetite;
        break;
      case 'reset':
      case 'finish':
      case 'close':
      case 'cancel':
        this.#peer(step.peer)[step.do]();
        break;
      case 'server':
        this.#strike(this.#clients[step.peer] as Client, step.fault);
        break;
      case 'end':
        this.#present[step.channel]?.end();
        this.#seq += 1;
        this.#open(step.channel);
        break;
      case 'deactivate':
        this.#push.deactivate();
        break;
      case 'activate':
        this.#push.activate();
        break;
      case 'timeout':
        this.#push.setTimeout(step.timeout, { reset: step.reset });
        break;
    }
  }

  #peer(index: number): Peer {
    return (this.#clients[index] as Client).peer;
  }

  #open(index: number): void {
    const plan = this.#plan.channels[index] as ChannelPlan;
    this.#opens += 1;
    // Another name each time: who joins the next channel of a name, and when, is for the interleavings to judge.
    const name = `line ${index}/ä ${this.#opens}`;
    const channel = this.#push.channels.create({ name, ...plan });
    this.#present[index] = channel;
    const line = { name, plan, madeAt: this.#seq, writes: [] };
    this.#lines.set(channel, line);
    this.#named.set(name, line);
  }

  #join(step: Join): void {
    const { peer: index, appetite, returnOf, via, partial, encoding, isWide } = step;
    const { protocol } = this.#plan;
    const peer = new Peer({ where: this.#where, tls: this.#server.tls, protocol }, appetite, isWide);
    const cursor = returnOf === undefined ? undefined : this.#peer(returnOf).reading.streams.at(-1)?.cursor;
    const client: Client = { join: step, peer, cursor, connection: undefined };
    this.#clients[index] = client;
    const arrival = new Promise<void>((resolve) => this.#arrivals.set(client, resolve));
    // One whose request is refused, or stops in the middle, never arrives; one that reads is told.
    const isRefused = isHolding(via) || partial ? Promise.resolve() : peer.answered;
    this.#arrived.set(client, Promise.race([arrival, peer.closed, isRefused]));

    const ids = step.channels
      .map((channel) => `chan_id=${encodeURIComponent(this.#present[channel]?.id ?? '')}`)
      .join('&');
    const ask = (path: string, headers: Record<string, string>, length?: number) => {
      const request: Request = {
        path: `${this.#mount}${path}`,
        headers: { 'X-Peer': String(index), ...headers },
        version: via === 'http/1.0' ? '1.0' : '1.1',
      };
      peer.request(request, length);
    };
    const returning: Record<string, string> = cursor === undefined ? {} : { 'Last-Event-ID': cursor.id };
    if (step.before) ask('/no-such-channel', {});
    const headers = { 'X-Via': via, 'Accept-Encoding': encoding, ...returning };
    ask(`/?${ids}`, headers, partial ? 40 : undefined);
    if (step.after) ask(`/?${ids}`, headers);
  }

  #write({ channel: index, sizes, tracked, event }: Write): void {
    const channel = this.#present[index] as Channel;
    const line = this.#lines.get(channel) as Line;
    for (const size of sizes) {
      this.#seq += 1;
      this.#serial += 1;
      const data = `${this.#serial}:${'x'.repeat(size)}`;
      const id = `${this.#push.inspect().epoch}-${this.#seq}@${encodeURIComponent(line.name)}`;
      const name = event === undefined ? '' : `event: ${event}\n`;
      const written: Written = {
        line,
        seq: this.#seq,
        serial: this.#serial,
        length: `id: ${id}\n${name}data: ${data}\n\n`.length,
        idLength: id.length,
        roster: this.#rosterOf(channel),
        tracked,
        settled: 0,
        outcome: undefined,
      };
      line.writes.push(written);
      this.#isWriting = true;
      channel.write(data, tracked ? { event, outcome: this.#outcomeOf(written) } : { event });
      this.#isWriting = false;
    }
  }

  #outcomeOf(written: Written): NonNullable<Parameters<Channel['write']>[1]>['outcome'] {
    let settle: () => void;
    const settled = new Promise<void>((resolve) => {
      settle = resolve;
    });
    this.#pending.add(settled);
    return {
      resolve: (outcome) => {
        if (this.#isWriting) this.checker.fault(`write ${written.seq} settled inside a write`);
        this.checker.settle(written, outcome);
        this.#pending.delete(settled);
        settle();
      },
    };
  }

  /** Who listens to the channel now. */
  #rosterOf(channel: Channel): readonly Attendance[] {
    const known = this.#rosters?.get(channel) ?? [];
    if (this.#rosters !== undefined && known.length === channel.listeners) return known;
    // Nobody joins in the middle of a turn of ours: a count that is the same is of the same listeners.
    this.#rosters = new Map();
    for (const { id, channels } of this.#push.inspect({ streams: true }).streams ?? []) {
      const attendance = this.#attendances.get(id) as Attendance;
      for (const name of channels) {
        const line = attendance.lines.find((each) => each.name === name);
        for (const [each, its] of this.#lines) {
          if (its !== line) continue;
          const roster = this.#rosters.get(each);
          if (roster === undefined) this.#rosters.set(each, [attendance]);
          else roster.push(attendance);
        }
      }
    }
    const roster = this.#rosters.get(channel) ?? [];
    if (roster.length !== channel.listeners) {
      this.checker.fault(`${channel.listeners} listeners, of whom inspect() knows ${roster.length}`);
    }
    return roster;
  }

  /** What other code on the server does. */
  #strike(client: Client, fault: 'destroy' | 'reset' | 'end'): void {
    const { connection, join: step } = client;
    // Written to after an end that others asked for, these compressors end the process.
    const isFragile = step.via === 'polka 0' || step.via === 'http-compression 0';
    if (connection === undefined || (fault === 'end' && isFragile)) return;
    client.peer.provoked.add(fault);
    const { socket } = connection;
    if (fault === 'end') this.#responses.get(client)?.end();
    else if (fault === 'destroy') socket.destroy();
    // Only TCP has a RST; and while a FIN is under way, Node's resetAndDestroy neither resets nor closes.
    else if (this.#plan.transport !== 'unix' && !connection.isEnding) socket.resetAndDestroy();
    else socket.destroy(new Error(`a fault of the schedule, at client ${step.peer}`));
  }

  async #close(): Promise<void> {
    const { calm, drain } = this.#plan;
    const peers = this.#clients.map(({ peer }) => peer);
    this.doing = 'connecting';
    await Promise.all(peers.map((peer) => peer.connected));
    // So that those who have just connected are on time.
    if (calm) {
      await new Promise(setImmediate);
      for (const peer of peers) peer.appetite = 'all';
    }
    this.doing = 'closing';
    await this.#push.close({ drain });
    this.#isOver = true;
    await new Promise(setImmediate);
    if (this.#pending.size > 0) this.checker.fault(`${this.#pending.size} outcomes are open after the close`);
    const { listeners } = this.#push.inspect();
    if (listeners > 0) this.checker.fault(`${listeners} listeners after the close`);

    this.doing = 'reading the rest';
    for (const peer of peers) peer.appetite = 'all';
    const closed = new Promise((resolve) => this.#server.server.close(resolve));
    this.#server.closeSessions();
    const opened = new Set(Array.from(this.#attendances.values(), ({ client }) => client));
    const clients = new Map(this.#clients.map((client) => [client.connection, client]));
    for (const connection of this.#server.connections) {
      const client = clients.get(connection);
      // A session of HTTP/2 ends by itself once its stream has ended.
      if (connection instanceof Http2Connection && opened.has(client)) continue;
      // The hub leaves alone what is none of its streams: refused, half requested, taken over.
      client?.peer.provoked.add('destroy');
      connection.socket.destroy();
    }
    for (const [index, { connection, peer }] of this.#clients.entries()) {
      if (connection === undefined) peer.discard();
      this.doing = `reading the rest of client ${index}`;
      await peer.closed;
    }
    // A session of HTTP/2 may not notice that its client is gone, while it does not read.
    for (const { socket } of this.#server.connections) socket.destroy();
    this.doing = 'closing the server';
    await closed;
  }
}
