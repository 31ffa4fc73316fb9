import type { Comet, Health } from 'express-comet';
import { firstOf } from './bounds.js';
import type { Stage } from './stage.js';

/** One node, as this one knows it. */
export interface NodeSnapshot {
  readonly name: string;
  /** What it said last: it is this one, it answers, it was silent, or nobody knows while the backplane is away. */
  readonly state: 'own' | 'answers' | 'silent' | 'unknown';
  /** Its listeners, by channel. */
  readonly listeners: Readonly<Record<string, number>>;
}

export interface NodesSnapshot {
  readonly health: Health;
  /** This one first, then the others by name, as many as fit into `BYTES`. */
  readonly nodes: readonly NodeSnapshot[];
}

// Milliseconds from one look to the next: as calm as people look.
const PAUSE = 1000;
// Of JSON. Others decide how many nodes and channels there are.
const BYTES = 128 * 1024;

/** The nodes of the observed hub's backplane, as they were when they were last asked. */
export class Nodes {
  readonly #changed: () => void;
  #push: Comet;
  #health: Health | undefined;
  #others: readonly NodeSnapshot[] = [];
  #looking = false;
  #due = 0;

  constructor(stage: Stage, changed: () => void) {
    this.#changed = changed;
    this.#push = stage.push;
    stage.watch((push) => this.#watch(push));
  }

  /** Asks them all, unless it was done a moment ago. */
  look(): void {
    if (this.#looking || performance.now() < this.#due || this.#push.inspect().closed) return;
    this.#looking = true;
    void this.#ask(this.#push);
  }

  inspect(): NodesSnapshot | null {
    const health = this.#health;
    if (health === undefined) return null;
    // Of this one all is known without asking.
    const listeners = Object.fromEntries(
      Array.from(this.#push.channels, ({ id, listeners }) => [id, listeners]),
    );
    const own: NodeSnapshot = { name: health.node, state: 'own', listeners };
    return { health, nodes: firstOf([own, ...this.#others], BYTES) };
  }

  #watch(push: Comet): void {
    this.#push = push;
    this.#health = undefined;
    this.#others = [];
    this.#looking = false;
    this.#due = 0;
    push.on('backplane', ({ cause }) => {
      // Sooner than the next look would say it.
      this.#due = 0;
      if (this.#health === undefined) return;
      if (cause !== undefined) this.#lost({ ...this.#health, healthy: false, reason: cause.message });
      this.#changed();
    });
  }

  async #ask(push: Comet): Promise<void> {
    const [health, others] = await Promise.all([push.health(), countAll(push).catch(() => undefined)]);
    // A new hub may have taken its place.
    if (push !== this.#push) return;
    this.#looking = false;
    this.#due = performance.now() + PAUSE;
    if (!health.healthy || others === undefined) this.#lost(health);
    else {
      this.#health = health;
      this.#others = others.filter(({ name }) => name !== health.node);
    }
    this.#changed();
  }

  #lost(health: Health): void {
    this.#health = { ...health, roundTrip: null };
    this.#others = this.#others.map((node) => ({ ...node, state: 'unknown' }));
  }
}

/** All nodes. Rejects where the backplane is away. */
async function countAll(push: Comet): Promise<NodeSnapshot[]> {
  const counts = await Promise.all(
    Array.from(push.channels, async (channel) => ({ id: channel.id, ...(await channel.countListeners()) })),
  );
  const names = new Set(counts.flatMap(({ nodes, silent }) => [...Object.keys(nodes), ...silent]));
  return [...names].sort().map((name) => {
    const answered = counts.filter(({ nodes }) => nodes[name] !== undefined);
    return {
      name,
      state: counts.some(({ silent }) => silent.includes(name)) ? 'silent' : 'answers',
      listeners: Object.fromEntries(answered.map(({ id, nodes }) => [id, nodes[name] ?? 0])),
    };
  });
}
