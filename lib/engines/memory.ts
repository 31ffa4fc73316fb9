import type {
  Append,
  Appended,
  Backplane,
  Direct,
  DirectLink,
  Entry,
  Findings,
  Found,
  Made,
  Node,
  Retained,
  Terms,
} from '../core/backplane.js';
import { freshEpoch, type Position } from '../core/position.js';

/**
 * The backplane of one process, and the default: of one hub, or of several to which it is given. It retains nothing
 * itself, since the hubs do: one that opens a channel later than another begins with what that one retains.
 */
export function inProcess(): Backplane {
  return new InProcess();
}

/** A channel, and who has it. */
interface Channel {
  readonly terms: Terms;
  // Not a set: there is one, as a rule, and that is walked for each entry.
  nodes: Node[];
  last: number;
}

/** An entry that waits: for all who have its channel by the time that it comes to them. */
interface Delivery {
  readonly entry: Entry;
  readonly channel: Channel;
}

// Ends that are remembered.
const ENDS = 10_000;
const NOBODY: ReadonlyMap<string, number> = new Map();

class InProcess implements Backplane {
  readonly name = 'in process';
  readonly epoch = freshEpoch();
  readonly nodes = new Map<string, Node>();
  readonly channels = new Map<string, Channel>();
  /** The last end of each name, the first of them first. */
  readonly ends = new Map<string, number>();
  /** Ends up to here may have been forgotten. */
  forgotten = 0;
  seq = 0;
  readonly #undelivered: Delivery[] = [];
  #delivering = false;

  /** Delivers to all nodes. What is appended by whoever receives something stands behind that, for every node. */
  deliver(entry: Entry, channel: Channel): void {
    if (this.#delivering) {
      this.#undelivered.push({ entry, channel });
      return;
    }
    this.#delivering = true;
    try {
      for (const node of channel.nodes) node.receive(entry);
      for (let next = this.#undelivered.shift(); next !== undefined; next = this.#undelivered.shift()) {
        for (const node of next.channel.nodes) node.receive(next.entry);
      }
    } finally {
      this.#delivering = false;
    }
  }

  end(chanId: string, seq: number): void {
    this.channels.delete(chanId);
    this.ends.delete(chanId);
    this.ends.set(chanId, seq);
    for (const [oldest, end] of this.ends) {
      if (this.ends.size <= ENDS) break;
      this.ends.delete(oldest);
      this.forgotten = end;
    }
  }

  connect(node: Node): DirectLink {
    this.nodes.set(node.id, node);
    return new InProcessLink(this, node);
  }
}

class InProcessLink implements DirectLink {
  readonly lease = Infinity;
  readonly keep = Infinity;
  readonly direct: Direct;
  readonly #engine: InProcess;
  readonly #node: Node;

  constructor(engine: InProcess, node: Node) {
    this.#engine = engine;
    this.#node = node;
    this.direct = {
      get position(): Position {
        return { epoch: engine.epoch, seq: engine.seq };
      },
      recall: (chanId) => this.#recall(chanId),
      hold: (chanId, terms) => this.#hold(chanId, terms),
    };
  }

  append({ chanId, body, number, asks, linger }: Append): Appended {
    const engine = this.#engine;
    engine.seq += 1;
    const { seq, epoch } = engine;
    const channel = engine.channels.get(chanId);
    if (channel === undefined) return { seq, nodes: NOBODY };
    const asker = asks ? { node: this.#node.id, number } : undefined;
    const entry: Entry = { chanId, epoch, seq, previous: channel.last, body, age: 0, asker };
    channel.last = seq;
    if (body === null) engine.end(chanId, seq);
    engine.deliver(body === null ? { ...entry, linger } : entry, channel);
    // How many listeners they have is known when they answer.
    return { seq, nodes: asks ? new Map(channel.nodes.map(({ id }) => [id, 0])) : NOBODY };
  }

  find(chanIds: readonly string[]): Findings {
    const { epoch, forgotten, channels, ends } = this.#engine;
    const names = new Map<string, Found>();
    for (const chanId of chanIds) {
      const terms = channels.get(chanId)?.terms;
      const lastEnd = ends.get(chanId) ?? 0;
      // What has ended lingers on the hubs that had it.
      if (terms !== undefined || lastEnd > 0) names.set(chanId, { terms, linger: undefined, lastEnd });
    }
    return { epoch, forgotten, names };
  }

  tell(node: string | null, word: string): void {
    if (node !== null) this.#engine.nodes.get(node)?.hear(word);
    else for (const each of this.#engine.nodes.values()) each.hear(word);
  }

  async nodes(): Promise<readonly string[]> {
    return [...this.#engine.nodes.keys()];
  }

  async close(): Promise<void> {
    this.#engine.nodes.delete(this.#node.id);
    for (const channel of this.#engine.channels.values()) {
      // Another list, since this may be called from where it is walked.
      channel.nodes = channel.nodes.filter((node) => node !== this.#node);
    }
  }

  #hold(chanId: string, terms: Terms): void {
    const { seq, epoch, channels, nodes, ends, forgotten } = this.#engine;
    const present = channels.get(chanId);
    const channel = present ?? { terms, nodes: [], last: seq };
    channels.set(chanId, channel);
    if (!channel.nodes.includes(this.#node)) channel.nodes.push(this.#node);
    if (present !== undefined) return;
    const lastEnd = Math.max(ends.get(chanId) ?? 0, forgotten);
    const made: Made = { chanId, epoch, terms, last: seq, made: seq, lastEnd };
    for (const node of nodes.values()) if (node !== this.#node) node.made(made);
  }

  #recall(chanId: string): Retained | undefined {
    for (const node of this.#engine.channels.get(chanId)?.nodes ?? []) {
      if (node !== this.#node) return node.recall(chanId);
    }
    return undefined;
  }
}
