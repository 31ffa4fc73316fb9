import type { LeaveReason, Outcome } from '../../lib/index.js';
import type { Connection, Sent } from './connection.js';
import type { Peer } from './peer.js';
import type { ChannelPlan, Join } from './plan.js';

/** A client of a schedule. */
export interface Client {
  readonly join: Join;
  readonly peer: Peer;
  /** The position that it came back with. */
  readonly cursor: { readonly id: string; readonly seq: number | undefined } | undefined;
  /** Its connection, once the server has read a request of it. */
  connection: Connection | undefined;
}

/** One life of a channel. */
export interface Line {
  readonly name: string;
  readonly plan: ChannelPlan;
  /** The position of the last write when it was made. */
  readonly madeAt: number;
  readonly writes: Written[];
}

/** A listener, as the hub tells of it. */
export interface Attendance {
  readonly id: string;
  readonly lines: readonly Line[];
  /** The position of the last write when it joined. */
  readonly joinedAt: number;
  /** Lines on which it jumped to the newest event. */
  readonly jumped: Set<Line>;
  left: LeaveReason | undefined;
  /** Its stream, once any of it was given to the kernel. */
  sent: Sent | undefined;
  client: Client | undefined;
}

/** One write. */
export interface Written {
  readonly line: Line;
  readonly seq: number;
  /** The number with which its data begins: no other write's begins so. */
  readonly serial: number;
  /** Bytes of its frame. */
  readonly length: number;
  /** Bytes of its id in that. */
  readonly idLength: number;
  /** Who was there. */
  readonly roster: readonly Attendance[];
  readonly tracked: boolean;
  settled: number;
  outcome: Outcome | undefined;
}

/** What became of one or many schedules. */
export interface Figures {
  schedules: number;
  outcomes: number;
  /** Outcomes, by what their streams went over. */
  over: Record<string, number>;
  listeners: number;
  delivered: number;
  unknown: number;
  failed: number;
  reasons: Record<string, number>;
  falseDelivered: number;
  unsettled: number;
  settledTwice: number;
  streams: number;
  /** Streams, by the way that their bytes went. */
  vias: Record<string, number>;
  blocked: number;
  /** Connections of which the count of what the kernel took was held against what the client read. */
  judged: number;
  framesRead: number;
  leaves: Record<string, number>;
}

export function noFigures(): Figures {
  return {
    schedules: 0,
    outcomes: 0,
    over: {},
    listeners: 0,
    delivered: 0,
    unknown: 0,
    failed: 0,
    reasons: {},
    falseDelivered: 0,
    unsettled: 0,
    settledTwice: 0,
    streams: 0,
    vias: {},
    blocked: 0,
    judged: 0,
    framesRead: 0,
    leaves: {},
  };
}

/** Adds what became of more. */
export function addFigures(sum: Figures, more: Figures): void {
  for (const [key, value] of Object.entries(more) as [keyof Figures, number | Record<string, number>][]) {
    if (typeof value === 'number') (sum[key] as number) += value;
    else {
      const counts = sum[key] as Record<string, number>;
      for (const [name, count] of Object.entries(value)) counts[name] = (counts[name] ?? 0) + count;
    }
  }
}
