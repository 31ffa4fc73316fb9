import { now } from './messages.js';

/** A position as it goes on the wire. */
export interface Place {
  readonly epoch: string;
  readonly seq: number;
}

/** One event that was heard. */
export interface Heard extends Place {
  readonly channel: string;
  readonly token: string;
}

/** What a stream said, in order. */
export type Step =
  /** An event. One of a start has no place. */
  | {
      readonly is: 'event';
      readonly place: Place | undefined;
      readonly channel: string;
      readonly token: string;
      readonly at: number;
    }
  /** Something of these channels is lost. */
  | { readonly is: 'gap'; readonly channels: readonly string[] }
  /** The stream stands there. */
  | { readonly is: 'at'; readonly place: Place };

/** A time in which a stream carried a channel, and nothing of it was lost. */
interface Carriage {
  readonly from: number;
  to: number;
}

/** One request of a client, and all that came of it. Times are those of `now()`. */
export class Stream {
  readonly askedAt = now();
  /** What `comet:open` said. `place` is undefined where starts follow: `comet:ready` tells it then. */
  opening:
    | {
        readonly listener: string;
        readonly channels: readonly string[];
        readonly place: Place | undefined;
        readonly gaps: readonly string[];
        readonly at: number;
      }
    | undefined;
  readonly steps: Step[] = [];
  /** The channels of which it was told, while it was open, that something is lost. */
  readonly lost = new Set<string>();
  endedAt: number | undefined;
  /** Whether the response was read to its end, and had one: all that the kernel took has been read. */
  isWhole = false;
  readonly #carriages = new Map<string, Carriage[]>();

  /**
   * @param node the process that it was sent to
   * @param channels those that it asked for
   * @param cursor the `Last-Event-ID` that it was sent with
   */
  constructor(
    readonly node: string,
    readonly channels: readonly string[],
    readonly cursor: string | undefined,
  ) {}

  /** It carries exactly these channels from now on. */
  carries(channels: readonly string[]): void {
    for (const name of this.#carriages.keys()) if (!channels.includes(name)) this.drops(name);
    for (const name of channels) {
      const own = this.#carriages.get(name) ?? [];
      if (own.at(-1)?.to !== Infinity) own.push({ from: now(), to: Infinity });
      this.#carriages.set(name, own);
    }
  }

  /** It does not carry this channel any more. */
  drops(channel: string): void {
    const last = this.#carriages.get(channel)?.at(-1);
    if (last?.to === Infinity) last.to = now();
  }

  /** Something of this channel is lost to it. It starts anew. */
  restarts(channel: string): void {
    this.drops(channel);
    this.#carriages.get(channel)?.push({ from: now(), to: Infinity });
    this.lost.add(channel);
  }

  /** Whether it carried this channel all the time from before `from` to `to`. */
  hasCarried(channel: string, from: number, to: number): boolean {
    const own = this.#carriages.get(channel) ?? [];
    return own.some((carriage) => carriage.from < from && carriage.to >= to);
  }
}
