import { equal } from 'node:assert/strict';
import type { Backplane, Link } from '../../core/backplane.js';
import type { CometOptions } from '../../core/options.js';
import { Player } from './player.js';
import { Station } from './station.js';
import type { Watch } from './watch.js';

/** Times of a link that a test asks for, so that it need not wait for those of a real one. */
export type Times = Partial<Pick<Link, 'lease' | 'keep'>>;

/** An engine, made for one test. */
export interface Rig {
  /** Nodes of all that it yields belong together. Their links have these times, where there are any. */
  backplane(times: Times): Backplane;
  /** The test is over. All that it had connected has been closed. */
  close(): Promise<void>;
}

/** Nodes and hubs of one engine, for one test. */
export class Stage {
  constructor(
    readonly watch: Watch,
    readonly rig: Rig,
    readonly direct: boolean,
  ) {}

  /** Nodes that are connected, each to a backplane of its own. */
  async nodes<const Names extends readonly string[]>(
    ...names: Names
  ): Promise<{ -readonly [Index in keyof Names]: Player }> {
    const players = await Promise.all(names.map((name) => this.node(name)));
    return players as { -readonly [Index in keyof Names]: Player };
  }

  async node(name: string, times: Times = {}): Promise<Player> {
    const player = new Player(name, this.rig.backplane(times), this.watch);
    equal(
      player.link.direct !== undefined,
      this.direct,
      'the option `direct` must say whether the links are',
    );
    await player.enter();
    return player;
  }

  /** Hubs of nodes, by their names. */
  async hubs<const Names extends readonly string[]>(
    names: Names,
    options: CometOptions = {},
  ): Promise<{ -readonly [Index in keyof Names]: Station }> {
    const stations = await Promise.all(
      names.map((node) => Station.open({ ...options, node, backplane: this.rig.backplane({}) }, this.watch)),
    );
    return stations as { -readonly [Index in keyof Names]: Station };
  }
}

/** One test. */
export interface Scene {
  readonly title: string;
  /** The links that it is a test of. */
  readonly of: 'any' | 'remote' | 'direct';
  readonly play: (stage: Stage) => Promise<void>;
}

type Play = Scene['play'];

/** A test of every engine. */
export const any = (title: string, play: Play): Scene => ({ title, of: 'any', play });
/** A test of engines that are elsewhere. */
export const remote = (title: string, play: Play): Scene => ({ title, of: 'remote', play });
/** A test of engines within the process. */
export const direct = (title: string, play: Play): Scene => ({ title, of: 'direct', play });
