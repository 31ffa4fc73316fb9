import { EventEmitter } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { Random } from '../support/random.js';
import { cleanup } from '../support/server.js';
import { Checker } from './checker.js';
import { Client } from './client.js';
import type { Figures } from './figures.js';
import { type Mark, now } from './messages.js';
import { type Ear, Occupant } from './occupant.js';
import type { Cycle, Plan } from './plan.js';
import { Seat } from './seat.js';
import { Servers } from './servers.js';
import { Strikes } from './strikes.js';
import type { Trouble } from './troubles.js';

// What does not come in this time, in a cluster that was healed, never does.
const FOREVER_MS = 30_000;
// A busy machine may take a node's sign of life for late, and its marks may then be unknown.
const MARKS = 5;
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
  readonly checker: Checker;
  readonly #plan: Plan;
  readonly #servers: Servers;
  readonly #seats: Seat[] = [];
  readonly #clients: Client[] = [];
  readonly #strikes: Strikes;
  readonly #told = new EventEmitter();
  readonly #ear: Ear;
  #foreign: Occupant | undefined;
  #newcomers = 0;

  private constructor(plan: Plan, servers: Servers) {
    this.#plan = plan;
    this.checker = new Checker(plan.lease);
    this.#servers = servers;
    this.#told.setMaxListeners(0);
    this.#ear = {
      notes: (node, notes) => this.checker.note(node, notes),
      wrong: (text) => this.checker.fault(text),
      ended: (order, at) => this.checker.ends.accept(order, at),
      changed: () => this.#told.emit('change'),
    };
    this.#strikes = new Strikes({
      servers,
      seats: this.#seats,
      checker: this.checker,
      ear: this.#ear,
      hop: (client) => this.#clients[client]?.hop(),
      replaceClient: (client, channels) => this.#join(client, channels),
    });
    process.on('exit', this.#end);
  }

  static async make(plan: Plan): Promise<Machine> {
    const servers = await Servers.start(plan.keeps);
    const machine = new Machine(plan, servers);
    cleanup(() => machine.close());
    for (let node = 0; node < plan.nodes; node += 1) {
      machine.#seats.push(new Seat(node, await servers.proxy(), plan.lease, machine.#ear));
    }
    if (plan.hasForeign) {
      machine.#foreign = Occupant.foreign(machine.#ear, (await servers.proxy()).port, plan.seed);
    }
    return machine;
  }

  async run(): Promise<void> {
    for (const seat of this.#seats) seat.start(undefined);
    await this.#until('every node is up', () => this.#seats.every(({ address }) => address.port > 0));
    if (!this.#plan.isEarly) await this.#healed();
    for (const [index, channels] of this.#plan.clients.entries()) this.#join(index, channels);
    for (const [index, cycle] of this.#plan.cycles.entries()) {
      this.checker.begin(index);
      for (const [seat, pace] of cycle.paces.entries()) this.#seats[seat]?.tell({ do: 'write', pace });
      this.#strikes.prepare(cycle);
      // All of them end before anything is closed, also where one has failed.
      const strikes = await Promise.allSettled(
        cycle.faults.map(async ({ at, fault }) => {
          await pause(at);
          await this.#strikes.strike(fault, cycle);
        }),
      );
      for (const strike of strikes) if (strike.status === 'rejected') throw strike.reason;
      await pause(cycle.linger);
      await this.#settle(cycle);
      await this.#servers.retire();
      if (this.checker.faults.length > 0) break;
    }
    for (const { address } of this.#seats) this.checker.living.add(address.name);
  }

  async close(): Promise<void> {
    process.off('exit', this.#end);
    this.#end();
    await this.#servers.close();
  }

  // Where the run is aborted, nobody else ends the processes.
  readonly #end = (): void => {
    for (const client of this.#clients) client.close();
    for (const seat of this.#seats) seat.close();
    this.#strikes.close();
    this.#foreign?.kill();
    this.#servers.remove();
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

  /** Nothing is done to the cluster any more: it is healed when each client hears from each node. */
  async #settle({ faults, keepers }: Cycle): Promise<void> {
    // A node that was killed may be missed until its lease has ended.
    const { troubles } = this.checker;
    const isRecent = ({ to }: Trouble) => to > now() - this.#plan.lease;
    const mayBeSilent =
      faults.some(({ fault }) => fault.do === 'kill node') || troubles.called('kill node').some(isRecent);
    for (let attempt = 1; attempt <= MARKS; attempt += 1) {
      for (const [channel, keeper] of keepers) this.#seats[keeper]?.tell({ do: 'open', channel });
      await this.#calm();
      const wrong = this.#wrongOf(await this.#mark(), mayBeSilent);
      if (wrong.length === 0) return;
      if (attempt === MARKS) for (const text of wrong) this.checker.fault(text);
    }
  }

  async #healed(): Promise<void> {
    const seats = this.#seats;
    await this.#until('every node is up', () => seats.every(({ address }) => address.port > 0));
    for (const seat of seats) seat.tell({ do: 'calm' });
    await this.#until('every node is healthy', () => seats.every(({ answer }) => answer?.kind === 'calm'));
  }

  async #calm(): Promise<void> {
    const seats = this.#seats;
    await this.#healed();
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
