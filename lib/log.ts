import type { Frame } from './frame.js';
import type { ChannelSettings } from './options.js';

/** The frames that a channel retains, oldest first. */
export class Log {
  readonly limits: ChannelSettings['log'];
  #frames: (Frame | undefined)[] = [];
  #oldest = 0;
  #bytes = 0;
  #floor: number;

  /** @param floor the `seq` that the hub's sequence stood at when the channel was made */
  constructor(limits: ChannelSettings['log'], floor: number) {
    this.limits = limits;
    this.#floor = floor;
  }

  /**
   * The lowest position from which nothing is missing: what was written before the channel was made, or was let
   * go since, can't be read. A position below it is a gap.
   */
  get floor(): number {
    return this.#floor;
  }

  /** Frames retained. */
  get size(): number {
    return this.#frames.length - this.#oldest;
  }

  /** Bytes retained. */
  get bytes(): number {
    return this.#bytes;
  }

  get oldest(): Frame | undefined {
    return this.#frames[this.#oldest];
  }

  get newest(): Frame | undefined {
    return this.#frames.at(-1);
  }

  append(frame: Frame): void {
    this.#frames.push(frame);
    this.#bytes += frame.bytes.length;
  }

  /** Whether the oldest frame is past a bound. The newest is never past those of number and bytes. */
  isOver(now: number): boolean {
    const { frames, bytes, age } = this.limits;
    const { oldest, size } = this;
    if (oldest === undefined) return false;
    return (size > 1 && (size > frames || this.#bytes > bytes)) || (age !== null && now - oldest.at > age);
  }

  /** Lets the oldest frame go. */
  shift(): void {
    const { oldest } = this;
    if (oldest === undefined) return;
    this.#bytes -= oldest.bytes.length;
    this.#floor = oldest.seq;
    this.#frames[this.#oldest] = undefined;
    this.#oldest += 1;
    // Empty places are cut off only when they are as many as the frames held: so a shift costs O(1), spread out.
    if (this.#oldest * 2 >= this.#frames.length) {
      this.#frames = this.#frames.slice(this.#oldest);
      this.#oldest = 0;
    }
  }

  /** What stands up to `floor` can't be read. Only for a log that holds nothing. */
  begin(floor: number): void {
    this.#floor = floor;
  }

  /** The frames after `seq`, oldest first. Whether any are missing is for `floor` to say. */
  *after(seq: number): IterableIterator<Frame> {
    for (let index = this.#indexAfter(seq); index < this.#frames.length; index += 1) {
      yield this.#frames[index] as Frame;
    }
  }

  /** Where the floor will stand when so many more frames, of so many bytes together, have been appended. */
  floorAfter(frames: number, bytes: number): number {
    let size = this.size + frames;
    let retained = this.#bytes + bytes;
    let floor = this.#floor;
    for (let index = this.#oldest; size > this.limits.frames || retained > this.limits.bytes; index += 1) {
      const frame = this.#frames[index];
      if (frame === undefined) break;
      size -= 1;
      retained -= frame.bytes.length;
      floor = frame.seq;
    }
    return floor;
  }

  /** Frames retained after `seq`. */
  sizeAfter(seq: number): number {
    return this.#frames.length - this.#indexAfter(seq);
  }

  /** The position from which `frames` of the newest frames are read. */
  before(frames: number): number | undefined {
    const first = this.#frames[Math.max(this.#oldest, this.#frames.length - frames)];
    return frames === 0 || first === undefined ? undefined : first.seq - 1;
  }

  #indexAfter(seq: number): number {
    let low = this.#oldest;
    let high = this.#frames.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#frames[middle] as Frame).seq <= seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** A log, and the position to read it from. */
export interface Reading {
  readonly log: Log;
  readonly from: number;
}

/**
 * The frames of several logs in one order, up to the position `head` and to `limit` bytes together; one frame at
 * least, if there is one.
 */
export function merge(readings: readonly Reading[], limit: number, head = Infinity): Frame[] {
  const merged: Frame[] = [];
  let bytes = 0;
  for (const frame of inOrder(readings)) {
    if (frame.seq > head || (merged.length > 0 && bytes + frame.bytes.length > limit)) break;
    merged.push(frame);
    bytes += frame.bytes.length;
  }
  return merged;
}

function inOrder(readings: readonly Reading[]): Iterable<Frame> {
  const [first, ...others] = readings;
  if (first === undefined) return [];
  return others.length === 0 ? first.log.after(first.from) : interleaved(readings);
}

function* interleaved(readings: readonly Reading[]): Iterable<Frame> {
  const sources = readings.map(({ log, from }) => log.after(from));
  const heads = sources.map((source) => source.next().value as Frame | undefined);
  while (true) {
    let first = -1;
    for (let index = 0; index < heads.length; index += 1) {
      const head = heads[index];
      if (head !== undefined && (first === -1 || head.seq < (heads[first] as Frame).seq)) first = index;
    }
    const frame = heads[first];
    if (frame === undefined) return;
    yield frame;
    heads[first] = sources[first]?.next().value as Frame | undefined;
  }
}
