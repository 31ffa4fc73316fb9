/**
 * Channels over Server-Sent Events, as a handler for Express or `node:http`.
 * @packageDocumentation
 */

export {
  Channel,
  type ChannelSnapshot,
  type EndOptions,
  type SendOptions,
  type WriteOptions,
} from './channels/channel.js';
export { Channels, type CreateOptions } from './channels/channels.js';
export type { Piped, PipeOptions } from './channels/pipe.js';
export type { ReadableStreamLike, Source, StreamChunkLike, StreamReaderLike } from './channels/source.js';
export type { ListenerCount } from './cluster/answers.js';
export type { BackplaneSnapshot, Health } from './cluster/relay.js';
export type { Backplane } from './core/backplane.js';
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
  InvalidMountError,
  InvalidOptionError,
  InvalidSourceError,
  MalformedMessageError,
  NonUniqueChannelNameError,
  TooManyVirtualChannelsError,
} from './core/errors.js';
export type { CometDiagnostics, CometEvents, LeaveReason, RefusalCode, Transport } from './core/events.js';
export type {
  Authorization,
  ChannelOptions,
  CometOptions,
  IdempotencyOptions,
  Lag,
  LingeringOptions,
  LogOptions,
  PublisherOptions,
  QueueOptions,
} from './core/options.js';
export { Deferred, type FailureReason, type NodeOutcome, type Outcome } from './core/outcome.js';
export type { Backlog } from './delivery/feed.js';
export type { ListenerSnapshot } from './delivery/listener.js';
export { inProcess } from './engines/memory.js';
export type { Handler, Next as CometNext } from './http/reply.js';
export { type Comet, comet, type DeactivateOptions, type InspectOptions, type Snapshot } from './hub.js';
export type { Request as CometRequest, Response as CometResponse } from './transport/stream.js';
