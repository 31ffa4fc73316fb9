import type { LayoutName } from './layouts.js';

/** One server under load. */
export interface Contender {
  name: string;
  /** Its file in servers/. */
  server: string;
  /** How its clients speak. Default: HTTP/1.1. */
  protocol?: 'http' | 'ws' | 'socket.io';
  /** What that file has several kinds of. */
  variant?: string;
  /** The module of another build of express-comet. Default: that of this working copy. */
  build?: string;
  /** Asks for the outcome of each write. Default: nobody asks. */
  outcome?: true;
  /** Default: all streams carry one channel. */
  layout?: LayoutName;
}

/** The measure of all others. */
export const subject: Contender = { name: 'express-comet', server: 'express-comet.ts' };

export const ours = {
  outcome: { ...subject, name: 'express-comet, outcome asked', outcome: true },
  http: { ...subject, name: 'express-comet, node:http', variant: 'http' },
  response: { ...subject, name: 'express-comet by response.write', variant: 'response' },
  same: { ...subject, name: 'express-comet, the same 20', layout: 'same' },
  own: { ...subject, name: 'express-comet, 1 and 19 of its own', layout: 'own' },
  overlapping: { ...subject, name: 'express-comet, 20 of 1,000', layout: 'overlapping' },
  each: { ...subject, name: 'express-comet, 1,000 channels', layout: 'each' },
  frames: (frames: string): Contender => ({
    ...subject,
    name: `express-comet, ${frames} retained`,
    variant: `retain ${frames.replace(',', '')}`,
  }),
} as const;

export const betterSse: Contender = { name: 'better-sse', server: 'better-sse.ts' };
export const sseChannel: Contender = { name: 'sse-channel', server: 'sse-channel.ts' };
export const ssePubsub: Contender = { name: 'sse-pubsub', server: 'sse-pubsub.ts' };
export const expressSse: Contender = { name: 'express-sse', server: 'express-sse.ts' };
export const ws: Contender = { name: 'ws', server: 'ws.ts', protocol: 'ws' };
export const socketIo: Contender = { name: 'socket.io', server: 'socket.io.ts', protocol: 'socket.io' };
export const nchan: Contender = { name: 'nchan', server: 'nchan.ts' };

/** What express-comet might be replaced by, from npm. */
export const peers: readonly Contender[] = [betterSse, sseChannel, ssePubsub, expressSse, ws, socketIo];

/** What there is to reach. */
export const bare = {
  response: { name: 'bare res.write', server: 'response.ts' },
  wrapped: { name: 'bare res.write, wrapped', server: 'response.ts', variant: 'wrapped' },
  socket: { name: 'bare socket', server: 'socket.ts' },
  routed: { name: 'bare socket of an Express route', server: 'express-socket.ts' },
  shared: { name: 'bare socket, one shared write', server: 'socket.ts', variant: 'shared' },
  route: { name: 'bare Express route', server: 'response.ts', variant: 'express' },
  send: { name: 'C send()', server: 'send.c' },
} as const satisfies Record<string, Contender>;
