/**
 * Channels over Server-Sent Events, as a handler for Express or `node:http`.
 * @packageDocumentation
 */

export type { ListenerCount } from './answers.js';
export type { Backplane } from './backplane.js';
export { inProcess } from './backplanes/in-process.js';
export { Channel, type ChannelSnapshot, type SendOptions, type WriteOptions } from './channel.js';
export { Channels, type CreateOptions } from './channels.js';
export { type Comet, comet, type InspectOptions, type Snapshot } from './comet.js';
export {
  BackplaneError,
  ChannelEndedError,
  CometError,
  FrameTooLargeError,
  type Happened,
  HubClosedError,
  InvalidAuthorizationError,
  InvalidChannelNameError,
  InvalidClientError,
  InvalidDataError,
  InvalidEventNameError,
  InvalidOptionError,
  InvalidSourceError,
  NonUniqueChannelNameError,
  TooManyVirtualChannelsError,
} from './errors.js';
export type { CometDiagnostics, CometEvents, LeaveReason, RefusalCode, Transport } from './events.js';
export type { Backlog } from './feed.js';
export type { ListenerSnapshot } from './listener.js';
export type {
  Authorization,
  ChannelOptions,
  CometOptions,
  IdempotencyOptions,
  Lag,
  LogOptions,
  PublisherOptions,
  QueueOptions,
} from './options.js';
export { Deferred, type FailureReason, type NodeOutcome, type Outcome } from './outcome.js';
export type { Piped, PipeOptions } from './pipe.js';
export type { BackplaneSnapshot, Health } from './relay.js';
export type { Handler, Next as CometNext } from './reply.js';
export type { ReadableStreamLike, Source, StreamChunkLike, StreamReaderLike } from './source.js';
export type { Request as CometRequest, Response as CometResponse } from './stream.js';
