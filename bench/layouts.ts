/** Which channels the streams carry, and which of them are written to. */
interface Layout {
  /** Channels in all, which are called by their numbers. */
  channels(streams: number): number;
  /** Those of one stream. */
  of(stream: number, streams: number): readonly number[];
  /** Those written to in a turn, so that each stream gets one event by it. */
  written(turn: number, streams: number): readonly number[];
}

const SEVERAL = 20;
const ranges = new Map<number, readonly number[]>();

export const layouts = {
  one: {
    channels: () => 1,
    of: () => [0],
    written: () => [0],
  },
  same: {
    channels: () => SEVERAL,
    of: () => range(SEVERAL),
    written: (turn) => [turn % SEVERAL],
  },
  // The first is everybody's, the others of each are nobody else's: no two streams carry the same.
  own: {
    channels: (streams) => 1 + streams * (SEVERAL - 1),
    of: (stream) => [0, ...range(SEVERAL - 1).map((index) => 1 + stream * (SEVERAL - 1) + index)],
    written: () => [0],
  },
  // As many channels as streams, and each stream has some in common with its neighbours.
  overlapping: {
    channels: (streams) => streams,
    of: (stream, streams) => range(SEVERAL).map((index) => (stream + index) % streams),
    written: (turn, streams) => range(streams / SEVERAL).map((index) => (index * SEVERAL + turn) % streams),
  },
  each: {
    channels: (streams) => streams,
    of: (stream) => [stream],
    written: (_turn, streams) => range(streams),
  },
} as const satisfies Record<string, Layout>;

export type LayoutName = keyof typeof layouts;

/** Where each stream is opened: its path, or the first few, which come again. */
export function pathsOf(layout: LayoutName, streams: number, path: string): string[] {
  const { of, channels } = layouts[layout];
  const joint = path.includes('?') ? '&' : '?';
  const different = channels(streams) < streams ? 1 : streams;
  return range(different).map(
    (stream) =>
      path +
      joint +
      of(stream, streams)
        .map((channel) => `chan_id=${channel}`)
        .join('&'),
  );
}

// One that was asked for before is the same: a server asks in each turn, and what that takes is put down to it.
function range(length: number): readonly number[] {
  const made = ranges.get(length) ?? Array.from({ length }, (_, index) => index);
  ranges.set(length, made);
  return made;
}
