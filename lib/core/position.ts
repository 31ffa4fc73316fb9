import { randomBytes } from 'node:crypto';

/** Where a frame stands in the order of all writes of a hub. */
export interface Position {
  /** One life of the logs: positions of two epochs can't be compared. */
  readonly epoch: string;
  /** 1, 2, 3 … in one sequence for all channels, so that one number says where a client stands on all of them. */
  readonly seq: number;
}

/** The order of all writes, as far as it is known here: the epoch, and the last `seq` of it. */
export class Sequence {
  epoch = freshEpoch();
  head = 0;
}

/** An epoch that was never there before: two lives that shared one would replay one's frames to clients of the other. */
export function freshEpoch(): string {
  // No UUID, because the id of each event carries the epoch: 12 characters instead of 36.
  return randomBytes(6).toString('hex');
}

/** What a client says of where it stands. */
export interface ClientCursor {
  /** Up to here it has received everything; `undefined` for a newcomer, `null` for a cursor that can't be read. */
  readonly position: Position | null | undefined;
  /** The channel whose start the client lost in the middle: it starts again. */
  readonly restarts: string | undefined;
  /** The client lost its first start: the names that were new in its request are new again. */
  readonly isFirst: boolean;
  /** The server told the client, at this position, that nothing of its channels is left. */
  readonly goneAt: Position | undefined;
}

// `new` or a position; `+` and `!` while starts are under way; the label of a channel. The label of an ordinary event
// (no `!`) is for the page to read, and is ignored in a cursor.
const CURSOR = /^(?:(new(?=!))|([0-9a-z]{1,32})-(0|[1-9]\d{0,15}))(\+)?(!)?(?:@(.*))?$/s;

const GONE = /^gone-([0-9a-z]{1,32})-(0|[1-9]\d{0,15})$/;

const NEWCOMER: ClientCursor = {
  position: undefined,
  restarts: undefined,
  isFirst: false,
  goneAt: undefined,
};

/** Reads the id that a client heard last. An empty one is that of a newcomer. */
export function parseCursor(text: string): ClientCursor {
  if (text === '') return NEWCOMER;
  const [match, isNew, epoch = '', digits, plus, bang, label] = CURSOR.exec(text) ?? [];
  if (isNew !== undefined) return NEWCOMER;
  const seq = Number(digits);
  const isPosition =
    match !== undefined && Number.isSafeInteger(seq) && (plus === undefined || bang !== undefined);
  const position = isPosition ? { epoch, seq } : null;
  const restarts = isPosition && bang !== undefined && label !== undefined ? nameOf(label) : undefined;
  return { position, restarts, isFirst: isPosition && plus !== undefined, goneAt: goneAt(text) };
}

function goneAt(text: string): Position | undefined {
  const [, epoch, digits] = GONE.exec(text) ?? [];
  return epoch === undefined ? undefined : { epoch, seq: Number(digits) };
}

/** A position as it goes on the wire: `9f3ac1-1024`. */
export function formatPosition({ epoch, seq }: Position): string {
  return `${epoch}-${seq}`;
}

/** The cursor of a client whose channels are all gone. It says up to where that was told. */
export function formatGone(position: Position): string {
  return `gone-${formatPosition(position)}`;
}

/** A position of no epoch: every channel starts anew for a client that returns with it. */
export const NOWHERE = formatPosition({ epoch: 'gap', seq: 0 });

/**
 * The id of an event of a start, up to the label: a client that loses its connection in the middle of a start returns
 * with it, and starts again.
 * @param hasNew whether the request named new channels beside its cursor
 */
export function formatStart(position: Position | null | undefined, hasNew: boolean): string {
  if (position === undefined) return 'new!';
  return `${position === null ? NOWHERE : formatPosition(position)}${hasNew ? '+' : ''}!`;
}

/** The name behind a label, which is percent-encoded. */
function nameOf(label: string): string | undefined {
  try {
    return decodeURIComponent(label);
  } catch {
    return undefined;
  }
}
