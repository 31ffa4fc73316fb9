import type {
  Append,
  Appended,
  Backplane,
  Direct,
  DirectLink,
  Entry,
  Node,
  Retained,
  Terms,
} from '../backplane.js';
import { freshEpoch, type Position } from '../position.js';

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
  readonly nodes: Map<string, Node>;
  last: number;
  /** Who answers for a write. How many listeners they have is known when they do. */
  respondents: ReadonlyMap<string, number>;
}

const NOBODY: ReadonlyMap<string, number> = new Map();

class InProcess implements Backplane {
  readonly name = 'in process';
  readonly epoch = freshEpoch();
  readonly nodes = new Map<string, Node>();
  readonly channels = new Map<string, Channel>();
  seq = 0;
  readonly #undelivered: [Entry, ReadonlyMap<string, Node>][] = [];
  #delivering = false;

  /** Delivers to all nodes. What is appended by whoever receives something stands behind that, for every node. */
  deliver(entry: Entry, nodes: ReadonlyMap<string, Node>): void {
    this.#undelivered.push([entry, nodes]);
    if (this.#delivering) return;
    this.#delivering = true;
    try {
      for (let next = this.#undelivered.shift(); next !== undefined; next = this.#undelivered.shift()) {
        for (const node of next[1].values()) node.receive(next[0]);
      }
    } finally {
      this.#delivering = false;
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

  append({ chanId, body, number, asks }: Append): Appended {
    const engine = this.#engine;
    engine.seq += 1;
    const { seq, epoch } = engine;
    const channel = engine.channels.get(chanId);
    if (channel === undefined) return { seq, nodes: NOBODY };
    const asker = asks ? { node: this.#node.id, number } : undefined;
    const entry = { chanId, epoch, seq, previous: channel.last, body, age: 0, asker };
    channel.last = seq;
    if (body === null) engine.channels.delete(chanId);
    engine.deliver(entry, channel.nodes);
    return { seq, nodes: asks ? channel.respondents : NOBODY };
  }

  find(chanIds: readonly string[]): ReadonlyMap<string, Terms> {
    const found = new Map<string, Terms>();
    for (const chanId of chanIds) {
      const channel = this.#engine.channels.get(chanId);
      if (channel !== undefined) found.set(chanId, channel.terms);
    }
    return found;
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
      if (channel.nodes.delete(this.#node.id)) this.#count(channel);
    }
  }

  #hold(chanId: string, terms: Terms): void {
    const { seq, channels } = this.#engine;
    const channel = channels.get(chanId) ?? { terms, nodes: new Map(), last: seq, respondents: NOBODY };
    channels.set(chanId, channel);
    channel.nodes.set(this.#node.id, this.#node);
    this.#count(channel);
  }

  #recall(chanId: string): Retained | undefined {
    for (const node of this.#engine.channels.get(chanId)?.nodes.values() ?? []) {
      if (node !== this.#node) return node.recall(chanId);
    }
    return undefined;
  }

  #count(channel: Channel): void {
    channel.respondents = new Map(Array.from(channel.nodes.keys(), (id) => [id, 0]));
  }
}
