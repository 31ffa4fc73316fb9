import { Relay } from '../../lib/cluster/relay.js';
import type {
  Append,
  Appended,
  Backplane,
  Entry,
  Findings,
  Node,
  Question,
  RemoteLink,
  Snapshot,
  Terms,
} from '../../lib/core/backplane.js';
import { BackplaneError } from '../../lib/core/errors.js';
import type { Random } from './random.js';

/** So many turns of the event loop. */
export async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise(setImmediate);
}

/** Wraps a backplane of one hub, so that every step takes some turns of the event loop more, drawn from a seed. */
export function delayed(backplane: Backplane, random: Random): Delayed {
  return new Delayed(backplane, random);
}

/** A backplane that keeps all that `lib/core/backplane.ts` asks for, and nothing that it does not; until it is told to fail. */
export class Delayed implements Backplane {
  readonly name = 'delayed';
  /** The probability that an entry gets lost on its way in. */
  loss = 0;
  /** The entries that were lost. */
  readonly lost: Entry[] = [];
  /** How many times the connection was made anew. */
  resets = 0;
  isUp = false;
  /** Told which channels are known to the backplane from now on. */
  held = (_chanIds: readonly string[]): void => {};
  #line: Line | undefined;
  #node: Node | undefined;

  constructor(
    readonly inner: Backplane,
    readonly random: Random,
  ) {}

  connect(node: Node): RemoteLink {
    this.#node = node;
    this.#line = new Line(this, node);
    return this.#line;
  }

  reset(): void {
    this.#line?.reset(new Error('The connection was reset, as the seed has it.'));
  }

  /** Has the hub believe that time has passed; with `ahead`, that all patience has ended which is not longer. */
  pass(elapsed: number, ahead = 0): void {
    if (this.#node instanceof Relay) this.#node.tick(elapsed, performance.now() + ahead);
  }

  /** Mostly none or a few, now and then very many. */
  drawTurns(): number {
    const { random } = this;
    return random.below(random.pick([1, 1, 2, 4, 4, 10, 60]));
  }
}

/** What is asked in turn is asked in turn, and answered in turn, however late; as over one connection. */
class Queue {
  #asked: Promise<unknown> = Promise.resolve();
  #answered: Promise<unknown> = Promise.resolve();

  asked(count: number): Promise<unknown> {
    this.#asked = this.#asked.then(() => turns(count));
    return this.#asked;
  }

  answered(answer: Promise<unknown>, count: number): Promise<unknown> {
    this.#answered = Promise.all([this.#answered, answer]).then(() => turns(count));
    return this.#answered;
  }
}

class Line implements RemoteLink {
  readonly #delayed: Delayed;
  readonly #link: RemoteLink;
  readonly #node: Node;
  // Two, since nothing orders what is subscribed to by what is asked.
  readonly #commands = new Queue();
  readonly #subscriptions = new Queue();
  #arrivals: (() => void)[] = [];
  #life = 0;

  constructor(delayed: Delayed, node: Node) {
    this.#delayed = delayed;
    this.#node = node;
    const link = delayed.inner.connect({
      id: node.id,
      connected: () => {
        this.#life += 1;
        delayed.isUp = true;
        node.connected();
      },
      disconnected: (cause) => {
        this.#life += 1;
        delayed.isUp = false;
        delayed.resets += 1;
        // What was under way is lost with the connection.
        this.#arrivals = [];
        node.disconnected(cause);
      },
      receive: (entry) => this.#receive(entry),
      marked: (mark) => this.#arrive(() => node.marked(mark)),
      made: (made) => this.#arrive(() => node.made(made)),
      hear: (word) => this.#arrive(() => node.hear(word)),
      malformed: (error) => node.malformed(error),
      recall: (chanId) => node.recall(chanId),
    });
    if (link.direct !== undefined) throw new Error('What is within the process can not be delayed.');
    this.#link = link;
  }

  get lease(): number {
    return this.#link.lease;
  }

  get keep(): number {
    return this.#link.keep;
  }

  append(append: Append): Promise<Appended> {
    return this.#call(this.#commands, async () => {
      const appended = await this.#link.append(append);
      if (append.made !== undefined) this.#delayed.held([append.chanId]);
      return appended;
    });
  }

  hold(channels: ReadonlyMap<string, Terms>): Promise<ReadonlyMap<string, number>> {
    return this.#call(this.#commands, async () => {
      const ended = await this.#link.hold(channels);
      this.#delayed.held([...channels.keys()].filter((chanId) => !ended.has(chanId)));
      return ended;
    });
  }

  find(chanIds: readonly string[]): Promise<Findings> {
    return this.#call(this.#commands, async () => this.#link.find(chanIds));
  }

  tell(node: string | null, word: string): Promise<void> {
    return this.#call(this.#commands, async () => this.#link.tell(node, word));
  }

  nodes(): Promise<readonly string[]> {
    return this.#call(this.#commands, () => this.#link.nodes());
  }

  subscribe(chanIds: readonly string[]): Promise<void> {
    return this.#call(this.#subscriptions, () => this.#link.subscribe(chanIds));
  }

  unsubscribe(chanIds: readonly string[]): Promise<void> {
    return this.#call(this.#subscriptions, () => this.#link.unsubscribe(chanIds));
  }

  awaitChannels(listeners: ReadonlyMap<string, number>): Promise<void> {
    return this.#call(this.#commands, () => this.#link.awaitChannels(listeners));
  }

  sync(questions: readonly Question[], mark: string): Promise<Snapshot> {
    return this.#call(this.#commands, () => this.#link.sync(questions, mark));
  }

  reset(cause: Error): void {
    this.#link.reset(cause);
  }

  close(): Promise<void> {
    return this.#link.close();
  }

  async #call<Answer>(queue: Queue, call: () => Promise<Answer>): Promise<Answer> {
    const life = this.#life;
    await queue.asked(this.#delayed.drawTurns());
    if (life !== this.#life) throw new BackplaneError('The connection was lost before it was asked.', 'no');
    const answer = call();
    // One turn at the least: no two answers come in one, and nothing else comes with an answer.
    await queue.answered(Promise.allSettled([answer]), 1 + this.#delayed.drawTurns());
    if (life !== this.#life)
      throw new BackplaneError('The connection was lost before the answer came.', 'unknown');
    return answer;
  }

  #receive(entry: Entry): void {
    const { random, loss, lost } = this.#delayed;
    if (random.next() < loss) lost.push(entry);
    else this.#arrive(() => this.#node.receive(entry));
  }

  #arrive(deliver: () => void): void {
    this.#arrivals.push(deliver);
    if (this.#arrivals.length === 1) this.#deliver(this.#arrivals);
  }

  /** Each in its turn, and those that no draw holds up in one. Those of a connection that is gone wait for nobody. */
  #deliver(arrivals: (() => void)[]): void {
    while (arrivals === this.#arrivals && arrivals.length > 0) {
      const count = this.#delayed.drawTurns();
      if (count > 0) {
        void turns(count).then(() => setImmediate(() => this.#hand(arrivals)));
        return;
      }
      arrivals[0]?.();
      arrivals.shift();
    }
  }

  #hand(arrivals: (() => void)[]): void {
    if (arrivals !== this.#arrivals) return;
    arrivals[0]?.();
    arrivals.shift();
    this.#deliver(arrivals);
  }
}
