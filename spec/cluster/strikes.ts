import { setTimeout as pause } from 'node:timers/promises';
import type { Checker } from './checker.js';
import type { Fault } from './faults.js';
import { now } from './messages.js';
import { type Ear, Occupant } from './occupant.js';
import type { Cycle } from './plan.js';
import type { Seat } from './seat.js';
import type { Servers } from './servers.js';

const DEAF_MS = 30;
// A process that has closed its hub has nothing left to do.
const EXIT_MS = 20_000;
// Each write may find out by itself that Redis has become a replica. What asks again and again is a storm.
const STORM = 600;

type FaultOf<Do> = Extract<Fault, { do: Do }>;

/** What faults are done to. */
export interface Target {
  readonly servers: Servers;
  readonly seats: readonly Seat[];
  readonly checker: Checker;
  readonly ear: Ear;
  hop(client: number): void;
  replaceClient(client: number, channels: readonly string[]): void;
}

/** Does to a cluster what was drawn. */
export class Strikes {
  readonly #target: Target;
  readonly #jobs: Occupant[] = [];
  #started = 0;

  constructor(target: Target) {
    this.#target = target;
  }

  /** A cycle begins: processes that it needs take a while to start. */
  prepare({ faults }: Cycle): void {
    for (const { fault } of faults) {
      if (fault.do === 'kill node' || fault.do === 'drain node') this.#seat(fault.node).prepare();
      if (fault.do === 'job') {
        this.#started += 1;
        this.#jobs.push(new Occupant(`job.${this.#started}`, this.#target.ear));
      }
    }
  }

  /** Does one fault. Resolves when it is over. */
  async strike(fault: Fault, cycle: Cycle): Promise<void> {
    const { checker } = this.#target;
    checker.count(fault.do);
    const isOfAll = !('node' in fault) || ('empties' in fault && fault.empties);
    const node = isOfAll ? undefined : this.#seat(fault.node).address.name;
    const isHarmless = ['hop', 'newcomer', 'job', 'dismiss', 'end channel'].includes(fault.do);
    const trouble = isHarmless ? undefined : checker.troubles.add({ what: fault.do, node, from: now() });
    await this.#do(fault, cycle);
    if (trouble !== undefined) trouble.to = now();
  }

  close(): void {
    for (const job of this.#jobs) job.kill();
  }

  async #do(fault: Fault, cycle: Cycle): Promise<void> {
    const { servers, checker } = this.#target;
    switch (fault.do) {
      case 'kill node': {
        const seat = this.#seat(fault.node);
        seat.kill();
        await pause(fault.down);
        seat.replace(paceOf(cycle, fault.node));
        break;
      }
      case 'stop node':
        await this.#stopped(fault.node, () => pause(fault.ms));
        break;
      case 'drain node':
        await this.#drain(fault, cycle);
        break;
      case 'deafen node':
        await this.#stopped(fault.node, async () => {
          // What it has sent arrives, and what it is answered is thrown away with the connection.
          await pause(DEAF_MS);
          this.#seat(fault.node).proxy.cut();
          if (fault.empties) await servers.restart('empty', 0);
        });
        break;
      case 'restart redis':
        await servers.restart(fault.how, fault.down);
        break;
      case 'stop redis':
        servers.redis.pause();
        await pause(fault.ms);
        servers.redis.resume();
        break;
      case 'kill connections':
        // Redis may be away just then.
        await servers.redis.cutConnections(...fault.kinds).catch(() => {});
        break;
      case 'demote': {
        const scripts = await servers.demote(fault.ms);
        if (scripts > STORM) checker.fault(`STORM: ${scripts} scripts to a replica in ${fault.ms} ms`);
        break;
      }
      case 'fail over':
        await servers.failOver();
        break;
      case 'lose key':
        // Redis may be away just then.
        await servers.lose(fault.key, fault.channel).catch(() => {});
        break;
      case 'network':
        await this.#disturb(fault);
        break;
      case 'end channel':
        await this.#end(fault);
        break;
      case 'job':
        await this.#work(fault);
        break;
      case 'dismiss':
        this.#seat(fault.node).tell({ do: 'dismiss', count: fault.count });
        break;
      case 'hop':
        for (const client of fault.clients) this.#target.hop(client);
        break;
      case 'newcomer':
        this.#target.replaceClient(fault.client, fault.channels);
        break;
    }
  }

  #seat(node: number): Seat {
    return this.#target.seats[node] as Seat;
  }

  async #stopped(node: number, meanwhile: () => Promise<void>): Promise<void> {
    const seat = this.#seat(node);
    const began = now();
    const { name } = seat.address;
    seat.stop();
    await meanwhile();
    seat.resume();
    this.#target.checker.stopped(name, now() - began);
  }

  async #drain({ node, drain }: FaultOf<'drain node'>, cycle: Cycle): Promise<void> {
    const seat = this.#seat(node);
    const { name } = seat.address;
    this.#target.checker.draining.set(name, now());
    seat.tell({ do: 'close', drain });
    await this.#exits(seat.replace(paceOf(cycle, node)));
  }

  async #work({ node, writes, seed }: FaultOf<'job'>): Promise<void> {
    const job = this.#jobs.shift() as Occupant;
    job.isDoomed = true;
    this.#target.checker.draining.set(job.name, now());
    const redis = this.#seat(node).proxy.port;
    job.tell({ do: 'job', name: job.name, redis, writes, seed, drain: 5000 });
    await this.#exits(job);
  }

  /** Waits for a process that closes its hub. */
  async #exits({ name, exit, child }: Occupant): Promise<void> {
    const { checker } = this.#target;
    const timer = setTimeout(() => {
      checker.fault(`STAYS: ${name} has closed its hub, and does not exit`);
      child.kill('SIGKILL');
    }, EXIT_MS);
    const code = await exit;
    clearTimeout(timer);
    if (code === 0) checker.living.add(name);
    else checker.fault(`${name} has closed its hub, and exits with ${code}`);
  }

  async #end({ channel, node, maker, waits, busy, linger }: FaultOf<'end channel'>): Promise<void> {
    const { ends } = this.#target.checker;
    const order = ends.order(channel, now());
    this.#seat(node).tell({ do: 'end', channel, linger, order });
    if (busy > 0 && maker !== node) this.#seat(maker).tell({ do: 'hold up', ms: busy });
    if (waits) await ends.accepted(order);
    this.#seat(maker).tell({ do: 'make', channel });
  }

  async #disturb({ node, how, ms }: FaultOf<'network'>): Promise<void> {
    const { proxy } = this.#seat(node);
    if (how.startsWith('stall')) proxy.stall(true);
    if (how.endsWith('refuse')) await proxy.refuse(true);
    if (how.startsWith('cut')) proxy.cut();
    await pause(ms);
    if (how.endsWith('cut')) proxy.cut();
    proxy.stall(false);
    await proxy.refuse(false);
  }
}

function paceOf({ paces }: Cycle, node: number): Cycle['paces'][number] {
  return paces[node] as Cycle['paces'][number];
}
