import { EventEmitter } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { TcpProxy } from '../support/proxy.js';
import { Random } from '../support/random.js';
import { RedisServer } from '../support/redis.js';
import { cleanup } from '../support/server.js';
import { Checker, type Figures } from './checker.js';
import { Client } from './client.js';
import { type Mark, now } from './messages.js';
import type { Cycle, Fault, Plan } from './plan.js';
import { Seat } from './seat.js';

// What does not come in this time, in a cluster that was healed, never does.
const FOREVER_MS = 60_000;
// A busy machine may take a node's sign of life for late, and its marks may then be unknown.
const MARKS = 5;
const DEAF_MS = 30;
const MiB = 2 ** 20;

export interface Result {
  readonly figures: Figures;
  readonly faults: readonly string[];
}

/** Runs a cluster through its cycles, and checks all that can be known of it. */
export async function run(plan: Plan): Promise<Result> {
  const machine = await Machine.make(plan);
  try {
    await machine.run();
  } catch (error) {
    machine.checker.fault((error as Error).stack ?? String(error));
  } finally {
    await machine.close();
  }
  machine.checker.conclude();
  return machine.checker;
}

class Machine {
  readonly checker = new Checker();
  readonly #plan: Plan;
  readonly #redis: RedisServer;
  readonly #folder: string | undefined;
  readonly #seats: readonly Seat[];
  readonly #clients: Client[] = [];
  readonly #told = new EventEmitter();
  #newcomers = 0;

  private constructor(
    plan: Plan,
    redis: RedisServer,
    folder: string | undefined,
    proxies: readonly TcpProxy[],
  ) {
    this.#plan = plan;
    this.#redis = redis;
    this.#folder = folder;
    this.#told.setMaxListeners(0);
    this.#seats = proxies.map(
      (proxy, index) =>
        new Seat(index, proxy, {
          notes: (node, notes) => this.checker.note(node, notes),
          wrong: (text) => this.checker.fault(text),
          changed: () => this.#told.emit('change'),
        }),
    );
    process.on('exit', this.#end);
  }

  static async make(plan: Plan): Promise<Machine> {
    const folder = plan.keeps ? mkdtempSync(join(tmpdir(), 'express-comet-cluster-')) : undefined;
    const args = folder === undefined ? [] : ['--dir', folder, '--appendonly', 'yes'];
    const redis = await RedisServer.start({ args });
    const proxies: TcpProxy[] = [];
    for (let node = 0; node < plan.nodes; node += 1) proxies.push(await TcpProxy.before(redis.port));
    const machine = new Machine(plan, redis, folder, proxies);
    cleanup(() => machine.close());
    return machine;
  }

  async run(): Promise<void> {
    for (const seat of this.#seats) seat.start(undefined);
    await this.#until('every node is up', () => this.#seats.every(({ address }) => address.port > 0));
    for (const [index, channels] of this.#plan.clients.entries()) this.#join(index, channels);
    for (const [index, cycle] of this.#plan.cycles.entries()) {
      this.checker.begin(index);
      for (const [seat, pace] of cycle.paces.entries()) this.#seats[seat]?.tell({ do: 'write', pace });
      for (const { fault } of cycle.faults) if (fault.do === 'kill node') this.#seats[fault.node]?.prepare();
      // All of them end before anything is closed, also where one has failed.
      const strikes = await Promise.allSettled(
        cycle.faults.map(async ({ at, fault }) => {
          await pause(at);
          await this.#strike(fault, cycle);
        }),
      );
      for (const strike of strikes) if (strike.status === 'rejected') throw strike.reason;
      await pause(cycle.linger);
      await this.#settle(cycle);
      if (this.checker.faults.length > 0) break;
    }
    this.checker.living = new Set(this.#seats.map(({ address }) => address.name));
  }

  async close(): Promise<void> {
    process.off('exit', this.#end);
    this.#end();
    await this.#redis.kill();
    for (const { proxy } of this.#seats) {
      await proxy.refuse(true);
      proxy.cut();
    }
  }

  // Where the run is aborted, nobody else ends the processes.
  readonly #end = (): void => {
    for (const client of this.#clients) client.close();
    for (const seat of this.#seats) seat.close();
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
  };

  #join(index: number, channels: readonly string[]): void {
    this.#clients[index]?.close();
    this.#newcomers += 1;
    const client = new Client(`client ${index}.${this.#newcomers}`, channels, {
      random: new Random(this.#plan.seed + 1000 * this.#newcomers),
      nodes: () => this.#seats.map(({ address }) => address).filter(({ port }) => port > 0),
      changed: () => this.#told.emit('change'),
    });
    this.#clients[index] = client;
    this.checker.clients.push(client);
  }

  async #strike(fault: Fault, { paces }: Cycle): Promise<void> {
    switch (fault.do) {
      case 'kill node': {
        const seat = this.#seats[fault.node] as Seat;
        seat.kill();
        await pause(fault.down);
        seat.replace(paces[fault.node] as Cycle['paces'][number]);
        break;
      }
      case 'stop node':
        await this.#stopped(fault.node, () => pause(fault.ms));
        break;
      case 'deafen node':
        await this.#stopped(fault.node, async () => {
          // What it has sent arrives, and what it is answered is thrown away with the connection.
          await pause(DEAF_MS);
          this.#seats[fault.node]?.proxy.cut();
          if (fault.empties) await this.#restartRedis('empty', 0);
        });
        break;
      case 'restart redis':
        await this.#restartRedis(fault.how, fault.down);
        break;
      case 'stop redis':
        this.#redis.pause();
        await pause(fault.ms);
        this.#redis.resume();
        break;
      case 'kill connections':
        // Redis may be away just then.
        await this.#redis.cutConnections(...fault.kinds).catch(() => {});
        break;
      case 'network':
        await this.#disturb(fault);
        break;
      case 'hop':
        for (const index of fault.clients) this.#clients[index]?.hop();
        break;
      case 'newcomer':
        this.#join(fault.client, fault.channels);
        break;
    }
  }

  async #stopped(node: number, meanwhile: () => Promise<void>): Promise<void> {
    const seat = this.#seats[node] as Seat;
    const began = now();
    const { name } = seat.address;
    seat.stop();
    await meanwhile();
    seat.resume();
    this.checker.stopped(name, now() - began);
  }

  async #restartRedis(how: 'empty' | 'killed' | 'in order', down: number): Promise<void> {
    if (how === 'in order') await this.#redis.stop();
    else await this.#redis.kill();
    if (how === 'empty' && this.#folder !== undefined) {
      for (const name of readdirSync(this.#folder)) rmSync(join(this.#folder, name), { recursive: true });
    }
    await pause(down);
    await this.#redis.restart();
  }

  async #disturb({ node, how, ms }: Extract<Fault, { do: 'network' }>): Promise<void> {
    const { proxy } = this.#seats[node] as Seat;
    if (how.startsWith('stall')) proxy.stall(true);
    if (how.endsWith('refuse')) await proxy.refuse(true);
    if (how.startsWith('cut')) proxy.cut();
    await pause(ms);
    if (how.endsWith('cut')) proxy.cut();
    proxy.stall(false);
    await proxy.refuse(false);
  }

  /** Nothing is done to the cluster any more: it is healed when each client hears from each node. */
  async #settle({ faults }: Cycle): Promise<void> {
    const mayBeSilent = faults.some(({ fault }) => fault.do === 'kill node');
    for (let attempt = 1; attempt <= MARKS; attempt += 1) {
      await this.#calm();
      const wrong = this.#wrongOf(await this.#mark(), mayBeSilent);
      if (wrong.length === 0) return;
      if (attempt === MARKS) for (const text of wrong) this.checker.fault(text);
    }
  }

  async #calm(): Promise<void> {
    const seats = this.#seats;
    await this.#until('every node is up', () => seats.every(({ address }) => address.port > 0));
    for (const seat of seats) seat.tell({ do: 'calm' });
    await this.#until('every node is healthy', () => seats.every(({ answer }) => answer?.kind === 'calm'));
    for (const { address, growth } of seats) {
      if (growth > 16 * MiB)
        this.checker.fault(`${address.name} has grown by ${Math.round(growth / MiB)} MiB`);
    }
    // A node may have yet to learn that a client has gone.
    await this.#until('every client listens, and every node knows', () => {
      const open = this.#clients.map(({ stream }) => stream?.node);
      return (
        !open.includes(undefined) &&
        seats.every(
          ({ address, listeners }) => open.filter((name) => name === address.name).length === listeners,
        )
      );
    });
  }

  async #mark(): Promise<readonly Mark[]> {
    const seats = this.#seats;
    const before = this.#clients.map(({ restarts }) => restarts);
    for (const seat of seats) seat.tell({ do: 'mark' });
    await this.#until('the marks have outcomes', () =>
      seats.every(({ answer }) => answer?.kind === 'marked'),
    );
    const marks = seats.flatMap(({ answer }) => (answer?.kind === 'marked' ? answer.marks : []));
    // On a busy machine a mark may be given up, and a client be told of a gap in which it stands: there will be others.
    const accepted = marks.filter(({ token }) => this.checker.isAccepted(token));
    await this.#until('every client has heard the marks', () =>
      this.#clients.every(
        ({ channels, tokens, restarts }, index) =>
          restarts > (before[index] as number) ||
          accepted.every(({ channel, token }) => !channels.includes(channel) || tokens.has(token)),
      ),
    );
    return marks;
  }

  /** In a cluster that is healed an outcome says all that there is to say. */
  #wrongOf(marks: readonly Mark[], mayBeSilent: boolean): readonly string[] {
    return marks.flatMap(({ token, channel, outcome }) => {
      const clients = this.#clients.filter(({ channels }) => channels.includes(channel));
      const there = clients.length;
      const { delivered, failed, unknown } = outcome;
      // A node that was killed may be missed until its lease has ended.
      const isRight =
        clients.every(({ tokens }) => tokens.has(token)) &&
        delivered === there &&
        failed === 0 &&
        (unknown === 0 || mayBeSilent);
      return isRight
        ? []
        : [`the mark ${token} on ${channel}, with ${there} clients, says ${JSON.stringify(outcome)}`];
    });
  }

  async #until(what: string, holds: () => boolean): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const look = () => {
        if (!holds()) return;
        over();
        resolve();
      };
      const timer = setTimeout(() => {
        over();
        reject(new Error(`NEVER: ${what}`));
      }, FOREVER_MS);
      const over = () => {
        clearTimeout(timer);
        this.#told.off('change', look);
      };
      this.#told.on('change', look);
      look();
    });
  }
}
