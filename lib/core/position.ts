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
  return randomBytes(6).toString('hex');
}

// What stands behind @ names the channel for the client to read; in a cursor it says nothing and is ignored.
const CURSOR = /^([0-9a-z]{1,32})-(0|[1-9]\d{0,15})(?:@|$)/;

/** Reads a cursor; `undefined` where it is not well formed, or its `seq` is no safe integer. */
export function parsePosition(cursor: string): Position | undefined {
  const [, epoch, digits] = CURSOR.exec(cursor) ?? [];
  const seq = Number(digits);
  return epoch !== undefined && Number.isSafeInteger(seq) ? { epoch, seq } : undefined;
}

/** A position as it goes on the wire: `9f3ac1-1024`. */
export function formatPosition({ epoch, seq }: Position): string {
  return `${epoch}-${seq}`;
}
