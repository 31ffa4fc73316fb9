import type { Client } from './client.js';
import type { Place, Step, Stream } from './stream.js';

/** What one client heard of one channel without being told of a gap: all of it after `seq`, up to `last`. */
export interface Chain {
  readonly channel: string;
  readonly epoch: string;
  /** Undefined until its first event: it begins there. */
  seq: number | undefined;
  readonly heard: Set<number>;
  last: number;
}

type Opening = NonNullable<Stream['opening']>;
type StepOf<Is> = Extract<Step, { is: Is }>;

/**
 * The way of one client: where it stands, and what it has heard of each name since it was told of a gap last. A channel
 * may end and be made anew: a stream waits for the next one of the name, so that the chain goes on.
 */
export class Path {
  says = '';
  readonly #client: Client;
  readonly #fault: (text: string) => void;
  readonly #chains: Chain[] = [];
  readonly #present = new Map<string, Chain>();
  // By channel: what was heard.
  readonly #tokens = new Map<string, Set<string>>();
  // Of each epoch the last position that it was told; and of each writer the number that it heard last.
  readonly #told = new Map<string, number>();
  readonly #numbers = new Map<string, number>();
  #at: Place | undefined;
  // What a stream opened with that has not said where it begins.
  #opened: Opening | undefined;

  constructor(client: Client, fault: (text: string) => void) {
    this.#client = client;
    this.#fault = fault;
  }

  get isNew(): boolean {
    return this.#at === undefined;
  }

  open(stream: Stream): void {
    this.says = `${this.#client.name} on ${stream.node} from ${stream.cursor}`;
    const opening = stream.opening as Opening;
    this.#opened = opening;
    const { place, gaps } = opening;
    if (this.isNew && gaps.length > 0) this.#fault(`${this.says} was told of a gap, and is new`);
    // What it hears of these now are starts.
    for (const channel of gaps) this.#lose(channel);
    if (place !== undefined) this.#begins(place, opening);
  }

  take(step: Step): void {
    if (step.is === 'event') this.#hear(step);
    else if (step.is === 'gap') for (const channel of step.channels) this.#lose(channel);
    else if (this.#opened === undefined) this.#stand(step.place);
    else this.#begins(step.place, this.#opened);
  }

  /** Something of a channel is lost: it starts anew, also with events that were heard before. */
  #lose(channel: string): void {
    this.#present.delete(channel);
    this.#tokens.delete(channel);
  }

  /** Everything up to where it stands now was heard. */
  end(): readonly Chain[] {
    for (const chain of this.#present.values())
      if (chain.epoch === this.#at?.epoch) chain.last = this.#at.seq;
    return this.#chains;
  }

  /** The stream says where it begins. */
  #begins(place: Place, { channels, gaps }: Opening): void {
    const at = this.#at;
    this.#opened = undefined;
    // Where nothing is read from the cursor on, it begins at the head of the order.
    const isStart = at === undefined || channels.every((channel) => gaps.includes(channel));
    if (!isStart && (place.epoch !== at.epoch || place.seq !== at.seq)) {
      this.#fault(`SILENT GAP: ${this.says} was recovered at ${placeOf(place)}, and stood at ${placeOf(at)}`);
    }
    if (at !== undefined && at.epoch !== place.epoch && gaps.length < this.#client.channels.length) {
      this.#fault(`SILENT GAP: ${this.says} is in another epoch, and was told of a gap of ${gaps} alone`);
    }
    // A newcomer's place is where the order stands: behind all that it was told before.
    if (place.seq < (this.#told.get(place.epoch) ?? 0)) {
      this.#fault(`BACK: ${this.says} starts at ${placeOf(place)}`);
    }
    for (const channel of at === undefined ? this.#client.channels : gaps) {
      // Where others are read from the cursor on, it starts further on than that.
      this.#begin(channel, place.epoch, isStart ? place.seq : undefined);
    }
    this.#stand(place);
  }

  #begin(channel: string, epoch: string, seq: number | undefined): Chain {
    const chain = { channel, epoch, seq, heard: new Set<number>(), last: seq ?? 0 };
    this.#chains.push(chain);
    this.#present.set(channel, chain);
    return chain;
  }

  #hear({ place, channel, token }: StepOf<'event'>): void {
    const { says } = this;
    const where = place === undefined ? 'in a start' : placeOf(place);
    const tokens = this.#tokens.get(channel) ?? new Set();
    this.#tokens.set(channel, tokens);
    if (tokens.has(token)) this.#fault(`DOUBLE: ${says} heard ${token} of ${channel} ${where}`);
    if (!this.#client.channels.includes(channel)) this.#fault(`${says} heard ${token}, not for it`);
    if (token.startsWith('foreign')) this.#fault(`FOREIGN: ${says} heard ${token}`);
    tokens.add(token);
    // What came late comes in a start, behind later ones.
    if (place === undefined) return;
    if (this.#opened !== undefined) {
      this.#fault(`${says} heard ${token} before it was ready`);
      return;
    }
    const at = this.#at as Place;
    if (place.epoch !== at.epoch) this.#fault(`${says} heard ${placeOf(place)} in ${at.epoch}`);
    if (place.seq <= at.seq) this.#fault(`${says} heard ${placeOf(place)} after ${at.seq}`);
    const [writer, number] = numberOf(token);
    if (number <= (this.#numbers.get(writer) ?? 0)) this.#fault(`ORDER: ${says} heard ${token} too late`);
    this.#numbers.set(writer, number);
    const chain = this.#present.get(channel) ?? this.#begin(channel, place.epoch, undefined);
    chain.seq ??= place.seq - 1;
    chain.heard.add(place.seq);
    this.#stand(place);
  }

  #stand(place: Place): void {
    this.#at = place;
    this.#told.set(place.epoch, place.seq);
    for (const chain of this.#present.values()) if (chain.epoch === place.epoch) chain.last = place.seq;
  }
}

/** The writer of a token, and its number there. */
export function numberOf(token: string): readonly [writer: string, number: number] {
  const [writer = '', number] = token.split(':');
  return [writer, Number(number)];
}

export const placeOf = ({ epoch, seq }: Place): string => `${epoch}-${seq}`;
