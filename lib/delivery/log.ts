import type { ChannelSettings } from '../core/options.js';
import type { Frame } from '../sse/frame.js';

/** The frames that a channel retains, oldest first. */
export class Log {
  readonly limits: ChannelSettings['log'];
  #begun: number;
  #frames: (Frame | undefined)[] = [];
  #oldest = 0;
  #bytes = 0;
  #floor: number;
  // The newest frame is the end of the channel. No bound counts it: it must not push out the last event.
  #ended = false;

  /** @param begun the `seq` that the hub's sequence stood at when the channel was made */
  constructor(limits: ChannelSettings['log'], begun: number) {
    this.limits = limits;
    this.#begun = this.#floor = begun;
  }

  /**
   * The lowest position from which nothing is missing: what was written before the channel was made, or was let
   * go since, can't be read. A position below it is a gap.
   */
  get floor(): number {
    return this.#floor;
  }

  /** Whether it retains everything that was written since the channel was made. */
  get isWhole(): boolean {
    return this.#floor === this.#begun;
  }

  /** Whether its newest frame is the end of the channel. */
  get isEnded(): boolean {
    return this.#ended && this.size > 0;
  }

  /** Nothing of the channel stands up to here: where the order stood when it was made. */
  get begun(): number {
    return this.#begun;
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

  /** @param isEnd whether the frame is the end of the channel */
  append(frame: Frame, isEnd = false): void {
    this.#frames.push(frame);
    this.#ended = isEnd;
    if (!isEnd) this.#bytes += frame.bytes.length;
  }

  /**
   * Whether the oldest frame is past a bound. The newest is never past those of number and bytes.
   * @param now in milliseconds of `performance.now()`; without it none is too old
   */
  isOver(now?: number): boolean {
    const { frames, bytes, age } = this.limits;
    const events = this.#ended ? this.size - 1 : this.size;
    if (events > 1 && (events > frames || this.#bytes > bytes)) return true;
    // The end itself never grows old: the channel lingers for as long as it is there.
    if (this.#ended && this.size === 1) return false;
    return now !== undefined && age !== null && this.oldest !== undefined && now - this.oldest.at > age;
  }

  /** Lets the oldest frame go. */
  shift(): void {
    const { oldest } = this;
    if (oldest === undefined) return;
    if (!this.#ended || this.size > 1) this.#bytes -= oldest.bytes.length;
    this.#floor = oldest.seq;
    this.#frames[this.#oldest] = undefined;
    this.#oldest += 1;
    // Empty places are cut off only when they are as many as the frames held: so a shift costs O(1), spread out.
    if (this.#oldest * 2 >= this.#frames.length) {
      this.#frames = this.#frames.slice(this.#oldest);
      this.#oldest = 0;
    }
  }

  /**
   * What stands up to `floor` can't be read. Only for a log that holds nothing.
   * @param begun where the order stood when the channel was made, if that was on another node
   */
  begin(floor: number, begun = this.#begun): void {
    this.#begun = begun;
    this.#floor = floor;
  }

  /** The frames after `seq`, oldest first. Whether any are missing is for `floor` to say. */
  after(seq: number): Cursor {
    return new Cursor(this.#frames, this.#indexAfter(seq));
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

  /** The position from which `events` of the newest events are read, and the end of the channel behind them. */
  before(events: number): number | undefined {
    const frames = this.#ended ? events + 1 : events;
    const first = this.#frames[Math.max(this.#oldest, this.#frames.length - frames)];
    return frames === 0 || first === undefined ? undefined : first.seq - 1;
  }

  #indexAfter(seq: number): number {
    const isAfter = (index: number) => (this.#frames[index] as Frame).seq > seq;
    // By ever longer steps from the newest: as a rule few are asked for, and old ones have left the processor's caches.
    let high = this.#frames.length;
    let step = 1;
    while (high - step >= this.#oldest && isAfter(high - step)) {
      high -= step;
      step *= 2;
    }
    let low = Math.max(this.#oldest, high - step);
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (isAfter(middle)) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** A place in a log, from which its frames are read. Only for as long as nothing is written to it. */
export class Cursor {
  readonly #frames: readonly (Frame | undefined)[];
  #index: number;

  constructor(frames: readonly (Frame | undefined)[], index: number) {
    this.#frames = frames;
    this.#index = index;
  }

  /** The next frame, if there is one. */
  get frame(): Frame | undefined {
    return this.#frames[this.#index];
  }

  /** Passes it. */
  advance(): void {
    this.#index += 1;
  }
}

/**
 * The frames of several logs in one order, up to `limit` bytes together (one frame at least, if there is one), and none
 * that stands after `last`. Each frame costs O(log n) for n logs.
 */
export function merge(cursors: readonly Cursor[], limit = Infinity, last = Infinity): Frame[] {
  // A binary heap: the cursor whose next frame is the earliest stands first.
  const heap = cursors.filter((cursor) => cursor.frame !== undefined);
  for (let index = (heap.length >>> 1) - 1; index >= 0; index -= 1) sink(heap, index);
  const merged: Frame[] = [];
  let bytes = 0;
  for (let first = heap[0]; first !== undefined; first = heap[0]) {
    const frame = first.frame as Frame;
    bytes += frame.bytes.length;
    if (frame.seq > last || (merged.length > 0 && bytes > limit)) return merged;
    merged.push(frame);
    first.advance();
    if (first.frame === undefined) {
      const moved = heap.pop() as Cursor;
      if (heap.length > 0) heap[0] = moved;
    }
    sink(heap, 0);
  }
  return merged;
}

/** Restores the heap below a cursor that may have become later than those below it. */
function sink(heap: Cursor[], from: number): void {
  const moved = heap[from];
  if (moved === undefined) return;
  const seq = seqOf(moved);
  let index = from;
  for (let child = 2 * index + 1; child < heap.length; child = 2 * index + 1) {
    if (child + 1 < heap.length && seqOf(heap[child + 1] as Cursor) < seqOf(heap[child] as Cursor))
      child += 1;
    const earlier = heap[child] as Cursor;
    if (seqOf(earlier) >= seq) break;
    heap[index] = earlier;
    index = child;
  }
  heap[index] = moved;
}

function seqOf(cursor: Cursor): number {
  return (cursor.frame as Frame).seq;
}
