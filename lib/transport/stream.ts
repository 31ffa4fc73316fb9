import { EventEmitter } from 'node:events';
import { type IncomingMessage, OutgoingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import { Socket } from 'node:net';
import { Writable } from 'node:stream';
import type { Transport } from '../core/events.js';
import { chunkOf, Payload } from '../sse/payload.js';
import { connectionKey } from './kernel.js';

/** A request of `node:http`, of Express, or of the compatibility layer of `node:http2`. */
export type Request = IncomingMessage | Http2ServerRequest;

/** Its response. */
export type Response = ServerResponse | Http2ServerResponse;

/**
 * What became of the bytes of a write: the operating system took all of them on a living connection (`taken`);
 * the stream is blocked, and says `drained` or `closed` later (`pending`); or there is no connection any more.
 */
export type Written = 'taken' | 'pending' | 'closed' | 'error';

/** Who a stream tells what happens to it, never from inside one of its own methods. */
export interface StreamOwner {
  /** Everything written was taken, after a `pending`. */
  drained(): void;
  /** The connection is gone, and whatever was pending with it. Told at least once, whoever closed it. */
  closed(reason: 'closed' | 'error'): void;
}

/** One response as a sink of bytes. */
export interface Stream {
  readonly transport: Transport;
  /**
   * Whether something between the stream and Node's socket holds bytes back: what was taken may not have been sent. Each
   * write looks, the first one too. It never becomes false again.
   */
  readonly opaque: boolean;
  /** Which connection it is on, as `connectionKey` has it. */
  readonly connection: string;
  /** Writes, unless the last write is still pending: that is for the owner to know. */
  write(payload: Payload): Written;
  /** Ends the response and the connection, after what was written. */
  end(): void;
  /** Closes the connection now. */
  destroy(): void;
}

// no-transform keeps compression, ours and that of proxies, from holding events back (RFC 9111 §5.2.2.6);
// X-Accel-Buffering does the same for the buffers of nginx.
const HEAD = [
  ['Content-Type', 'text/event-stream'],
  ['Cache-Control', 'no-cache, no-transform'],
  ['X-Accel-Buffering', 'no'],
] as const;

// Node's own functions. `ServerResponse` inherits its `write`, so a tracer that replaces it there leaves this one.
const WRITE = own(OutgoingMessage.prototype.write, 'write_(this, chunk, encoding, callback, false)');
const QUEUE = own(Writable.prototype.write, '_write(this, chunk, encoding, cb)');
const PASS = own(Socket.prototype._write, 'this._writeGeneric(false, data, encoding, cb)');

/**
 * Returns the function if its source is Node's, else `undefined`: a tracer may have replaced it before this module was
 * loaded. No function equals `undefined`, so bytes then go through the tracer's.
 */
function own<F extends (...given: never) => unknown>(method: F, source: string): F | undefined {
  return Function.prototype.toString.call(method).includes(source) ? method : undefined;
}

/** Whether a response can still be answered, and its client is still there. */
export function isAnswerable(request: Request, response: Response): boolean {
  if (response.headersSent) return false;
  if (isHttp2(request, response)) return !response.stream.destroyed;
  return request.socket.writable;
}

/** Answers with a short body, or with none where the method is HEAD. */
export function answer(
  request: Request,
  response: Response,
  status: number,
  headers: Readonly<Record<string, string>>,
  body: string,
): void {
  response.statusCode = status;
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  response.setHeader('Content-Length', Buffer.byteLength(body));
  response.end(request.method === 'HEAD' ? '' : body);
}

/** Answers with a whole event stream, that ends behind this text; or with its head alone where the method is HEAD. */
export function answerStream(
  request: Request,
  response: Response,
  headers: Readonly<Record<string, string>>,
  text: string,
): void {
  response.statusCode = 200;
  setHead(response);
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  response.end(request.method === 'HEAD' ? '' : text);
}

/** Answers that there is nothing more. */
export function answerEmpty(response: Response): void {
  response.statusCode = 204;
  response.end();
}

/** Answers a HEAD with the head of the stream that a GET would get. */
export function answerHead(response: Response): void {
  response.statusCode = 200;
  setHead(response);
  response.end();
}

// The threat: a stranger pipelines behind a stream, or behind a slow `authorize`. Each request of 28 bytes keeps 2.7 KB until
// its turn, and Node bounds only the bytes of answers. To stop reading instead of cutting the connection would hide that the
// client has gone. So the cut ends the stream in front as well; browsers and proxies do not pipeline. HTTP/2 has
// no turns: the server bounds a session (`maxConcurrentStreams`, `maxSessionMemory`).
const MAX_WAITING = 8;
const waiting = new WeakMap<Socket, number>();

/**
 * Resolves when it is the response's turn on its connection; `undefined` where it is. Before that a pipelined response has
 * no socket, its callbacks never come, and it is not told when the connection goes (RFC 9112 §9.3.2). If it goes first,
 * this never resolves, and is collected with the response. More than `MAX_WAITING` such responses cut the connection.
 */
export function turnOf(response: Response): Promise<void> | undefined {
  // A response that has ended needs no turn.
  if (response.socket !== null || response.writableEnded) return undefined;
  const { socket } = (response as ServerResponse).req;
  const count = (waiting.get(socket) ?? 0) + 1;
  waiting.set(socket, count);
  if (count > MAX_WAITING) socket.destroy();
  return new Promise((resolve) => {
    listen(response, 'socket', () => {
      waiting.set(socket, (waiting.get(socket) as number) - 1);
      resolve();
    });
  });
}

/**
 * Sends the head and the first text, which is ASCII. The response is answerable, and has its turn. Throws what a replaced
 * function throws: then the owner hears nothing, and the response is still answerable, or destroyed.
 *
 * Express gives each request and response a prototype of its application's, after which V8 shares no shape among them, and a
 * look at a property costs up to a microsecond: so they are looked at as seldom as can be.
 */
export function openStream(
  request: Request,
  response: Response,
  owner: StreamOwner,
  opening: string,
): { stream: Stream; written: Written } {
  // What is not read of a request keeps its connection from being read, and so its end from being seen. Most have no
  // body, and to read nothing costs some microseconds.
  if (mayHaveBody(request)) request.resume();
  setHead(response);
  try {
    const stream = isHttp2(request, response)
      ? openHttp2(request.socket, response, owner, opening)
      : openHttp1(request.socket, response, owner, opening);
    letGo(request);
    // Last, so that the owner hears only from a stream that is whole.
    return { stream, written: stream.begin() };
  } catch (error) {
    if (response.headersSent) response.destroy();
    throw error;
  }
}

function openHttp2(
  socket: Socket,
  response: Http2ServerResponse,
  owner: StreamOwner,
  opening: string,
): ResponseStream {
  response.writeHead(200);
  const stream = new ResponseStream(socket, response, owner);
  stream.open(opening);
  return stream;
}

function openHttp1(
  socket: Socket,
  response: ServerResponse,
  owner: StreamOwner,
  opening: string,
): SocketStream | ResponseStream {
  // flushHeaders would do this too, but through five more properties.
  response.writeHead(200);
  // The head and the first bytes in one system call.
  socket.cork();
  try {
    response.flushHeaders();
    const stream = isDirect(response)
      ? new SocketStream(socket, response, owner)
      : new ResponseStream(socket, response, owner);
    stream.open(opening);
    return stream;
  } finally {
    socket.uncork();
  }
}

/** Whether there may be a body. In HTTP/1 there is one exactly where the head says so (RFC 9112 §6.3). */
function mayHaveBody({ headers, httpVersionMajor }: Request): boolean {
  if (httpVersionMajor > 1) return true;
  return headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined;
}

/** Express keeps on each request what passes it on, and with that the whole way that it has come: 0.6 KiB. */
function letGo(request: Request & { next?: unknown }): void {
  if (request.next !== undefined) request.next = undefined;
}

function setHead(response: Response): void {
  for (const [name, value] of HEAD) response.setHeader(name, value);
}

function isHttp2(request: Request, response: Response): response is Http2ServerResponse {
  return !(response instanceof ServerResponse) && request.httpVersionMajor === 2;
}

/**
 * Whether the bytes of a response, its head flushed, may go to its socket: only where `response.write` is Node's own. A
 * function that replaced it is meant to see them.
 */
function isDirect(response: ServerResponse): boolean {
  return response.chunkedEncoding && response.write === WRITE && !response.writableEnded;
}

/** What Node's `end` of a connection comes to: nothing may be written to it any more. */
function faultOf(socket: Socket): 'closed' | 'error' | undefined {
  if (socket.errored) return 'error';
  return socket.destroyed || !socket.writable ? 'closed' : undefined;
}

/** Listens by Node's own `on`. A compressor may have replaced `response.on` by one for its own stream, which ends earlier. */
function listen<E extends EventEmitter>(
  emitter: E,
  event: string,
  handler: (this: E, value: never) => void,
): void {
  EventEmitter.prototype.on.call(emitter, event, handler as () => void);
}

/** Ends a response; where whoever wrapped it throws, it is told as every stream's error is, and harms no other stream. */
function endOf(response: Response): void {
  try {
    response.end();
  } catch (error) {
    response.destroy(error as Error);
  }
}

/**
 * Whether bytes may be given to the socket's `_write`, past the queue that every Writable keeps before that: the queue, and
 * its tick after each write, are 2 to 5 % of a delivery. Node documents `_write` for who implements a stream, not for who
 * uses one. So only where it is that of `net.Socket` itself, which can take a write while another is under way (under TLS
 * Node would abort), and where `write` is Node's own. Everywhere else the bytes go through the queue.
 */
function mayPass(socket: Socket): boolean {
  return (
    socket.write === QUEUE && socket._write === PASS && Object.getPrototypeOf(socket) === Socket.prototype
  );
}

function keyOf({ localPort = 0, remoteAddress = '', remotePort = 0 }: Socket): string {
  return connectionKey(localPort, remoteAddress, remotePort);
}

const STREAM = Symbol('the stream on this socket');
type StreamSocket = Socket & { [STREAM]?: SocketStream };

// One function for all: a closure a stream would keep its request and response alive, 4 KiB. As a rule the response tells
// that its socket has closed: the list of those who hear that from the socket itself would grow to 19 places.
function onSocketClose(this: StreamSocket, hadError: boolean): void {
  this[STREAM]?.closed(hadError);
}

function onResponseEnd(this: ServerResponse): void {
  (this.req.socket as StreamSocket)[STREAM]?.responseEnded(this);
}

function onResponseClose(this: ServerResponse): void {
  (this.req.socket as StreamSocket)[STREAM]?.responseClosed(this);
}

/**
 * Writes chunks of HTTP/1.1 on the socket itself: `response.write` costs half as much again. A callback of Node's counts
 * only together with the socket's state, because it reports no error for a batch that a reset threw away.
 */
class SocketStream implements Stream {
  readonly #socket: StreamSocket;
  readonly #response: ServerResponse;
  readonly #owner: StreamOwner;
  #opaque = false;
  #ended = false;
  // Somebody else has ended the response: what follows on this connection is not ours.
  #isTakenOver = false;

  constructor(socket: StreamSocket, response: ServerResponse, owner: StreamOwner) {
    this.#socket = socket;
    this.#response = response;
    this.#owner = owner;
  }

  // Not a field, of which each stream would have its own.
  get transport(): 'socket' {
    return 'socket';
  }

  get opaque(): boolean {
    return this.#opaque;
  }

  get connection(): string {
    return keyOf(this.#socket);
  }

  /** Writes the first text. */
  open(text: string): void {
    this.#give(chunkOf(text));
  }

  /** Listens for what happens to the connection. Returns what became of the first text. */
  begin(): Written {
    this.#socket[STREAM] = this;
    // Inside of end(), and after it, should Node cease to tell the first. To read `writableEnded` before each write
    // instead costs a fifth of a delivery: the response is out of the processor's caches by then.
    listen(this.#response, 'prefinish', onResponseEnd);
    listen(this.#response, 'close', onResponseClose);
    return this.#look();
  }

  write(payload: Payload): Written {
    const socket = this.#socket;
    if (!socket.writable || this.#isTakenOver) return faultOf(socket) ?? 'closed';
    // What the socket still holds of others goes first.
    if (mayPass(socket) && socket.writableLength === 0) return this.#pass(payload.chunk);
    try {
      this.#give(payload.chunk);
    } catch (error) {
      socket.destroy(error as Error);
      return 'error';
    }
    return this.#look();
  }

  end(): void {
    if (this.#isTakenOver || this.#ended) return;
    this.#ended = true;
    // The response closes when its last bytes have gone out, and the socket after it.
    this.#socket.on('close', onSocketClose);
    endOf(this.#response);
  }

  destroy(): void {
    if (!this.#isTakenOver) this.#socket.destroy();
  }

  closed(hadError: boolean): void {
    this.#owner.closed(hadError ? 'error' : 'closed');
  }

  responseEnded(response: ServerResponse): void {
    if (response !== this.#response || this.#isTakenOver) return;
    if (this.#ended) {
      // Not in end(): a middleware may end the response later, as express-session does.
      this.#socket.destroySoon();
      return;
    }
    this.#isTakenOver = true;
    // The connection lives on, and may never tell.
    queueMicrotask(() => this.#owner.closed('closed'));
  }

  responseClosed(response: ServerResponse): void {
    if (response !== this.#response) return;
    if (this.#socket.destroyed) this.closed(this.#socket.errored !== null);
    else this.responseEnded(response);
  }

  /** Writes past the queue of the socket. What is called back before that returns, the operating system has taken. */
  #pass(chunk: Payload['chunk']): Written {
    const socket = this.#socket;
    const encoding = (typeof chunk === 'string' ? 'latin1' : 'buffer') as BufferEncoding;
    let written: Written | undefined;
    socket._write(chunk, encoding, (error) => {
      // As the queue would.
      if (error) socket.destroy(error);
      if (written !== 'pending') written = error ? 'error' : 'taken';
      // On a socket that was destroyed there is no error.
      else if (!socket.destroyed) this.#owner.drained();
    });
    written ??= 'pending';
    return written;
  }

  /** Writes through `socket.write`, and looks whether Node's socket got the bytes. */
  #give(chunk: Payload['chunk']): void {
    const socket = this.#socket;
    const { bytesWritten } = socket;
    socket.write(chunk, 'latin1');
    if (socket.bytesWritten - bytesWritten !== chunk.length) this.#opaque = true;
  }

  #look(): Written {
    const socket = this.#socket;
    // Writable is also: neither destroyed nor broken.
    if (socket.writable && socket.writableLength === 0) return 'taken';
    const fault = faultOf(socket);
    if (fault !== undefined) return fault;
    this.#ask();
    return 'pending';
  }

  // An empty write is answered when all that stands before it has gone out. Below the high-water mark there is no
  // 'drain' to wait for, and the callback's own error says nothing: the socket's state does.
  #ask(): void {
    this.#socket.write('', () => {
      const socket = this.#socket;
      if (socket.destroyed || socket.errored) return;
      if (socket.writableLength === 0) this.#owner.drained();
      else if (socket.writable) this.#ask();
    });
  }
}

let unconfirmed: ResponseStream[] = [];

/**
 * Confirms that the bytes of a stream of HTTP/2 were taken. Node reports success also if the write to the socket failed
 * (a TODO of `Http2Session::ClearOutgoing`), and tells of the failure after its next poll for I/O. So this waits for two
 * turns of the event loop, between which there is a poll.
 */
function confirm(stream: ResponseStream): void {
  unconfirmed.push(stream);
  if (unconfirmed.length > 1) return;
  setImmediate(() => {
    const streams = unconfirmed;
    unconfirmed = [];
    setImmediate(() => {
      for (const each of streams) each.confirmed();
    });
  });
}

/**
 * Writes through `response.write`: HTTP/1.0, HTTP/2, and responses whose `write` was replaced. The callback of a replaced
 * `write` proves nothing: some call it while they hold the bytes, some never. What counts is how many bytes Node's socket,
 * or stream of HTTP/2, got during the call, and whether it still holds any.
 */
class ResponseStream implements Stream {
  readonly transport = 'response';
  readonly #socket: Socket;
  readonly #response: Response & { flush?: () => void };
  readonly #owner: StreamOwner;
  // The stream of HTTP/2. Found once: a look at the request of each response costs an eighth of a delivery.
  readonly #http2: Http2ServerResponse['stream'] | undefined;
  // HTTP/2 always takes bytes later. Its own callback says when: to ask by an empty write costs as much as a delivery.
  readonly #callsBack: boolean;
  #opaque = false;

  constructor(socket: Socket, response: Response, owner: StreamOwner) {
    this.#socket = socket;
    this.#response = response;
    this.#owner = owner;
    this.#http2 = isHttp2(response.req, response) ? response.stream : undefined;
    this.#callsBack = this.#http2 !== undefined && !Object.hasOwn(response, 'write');
  }

  get opaque(): boolean {
    return this.#opaque;
  }

  get connection(): string {
    return keyOf(this.#socket);
  }

  /** Writes the first text. */
  open(text: string): void {
    // @polka/compression and http-compression send the head at the first write, and compress if that is long.
    if (!this.#response.headersSent) (this.#response as ServerResponse).write('');
    this.#give(new Payload([text], false));
  }

  /** Listens for what happens to the connection. Returns what became of the first text. */
  begin(): Written {
    const owner = this.#owner;
    // A write after the end is an event of the response, and would be an uncaught exception.
    listen(this.#response, 'error', () => owner.closed('error'));
    const onClose = (hadError: boolean) => owner.closed(hadError ? 'error' : 'closed');
    listen(this.#response, 'close', () => {
      if (this.#http2 === undefined) this.#socket.off('close', onClose);
      onClose(this.#fault() === 'error');
    });
    if (this.#http2 === undefined) listen(this.#socket, 'close', onClose);
    return this.#opaque ? 'taken' : this.#look();
  }

  write(payload: Payload): Written {
    const fault = this.#fault();
    if (fault !== undefined) return fault;
    let more: boolean;
    try {
      more = this.#give(payload);
    } catch (error) {
      // The error of a wrapper ends its own stream, and no other.
      this.#response.destroy(error as Error);
      return 'error';
    }
    if (!this.#opaque) return this.#look();
    // Nothing tells when the bytes leave. The buffer that holds them may be full.
    return more === false ? 'pending' : 'taken';
  }

  end(): void {
    if (this.#http2 === undefined) listen(this.#response, 'finish', () => this.#socket.destroySoon());
    endOf(this.#response);
  }

  destroy(): void {
    (this.#http2 ?? this.#socket).destroy();
  }

  /** Writes through the response, and looks whether Node got the bytes. Returns what `response.write` returns. */
  #give(payload: Payload): boolean {
    const response = this.#response as ServerResponse & { flush?: () => void };
    const before = this.#received;
    let more: boolean;
    // Node corks it until the end of the tick, unless it is corked already.
    if (this.#http2 === undefined) this.#socket.cork();
    try {
      more = this.#callsBack ? response.write(payload.bytes, this.#onTaken) : response.write(payload.bytes);
      response.flush?.();
    } finally {
      if (this.#http2 === undefined) this.#socket.uncork();
    }
    const received = this.#received - before;
    // The bytes, and the frame of a chunk or a part of it: Node joins the writes of a tick.
    const isWhole = received >= payload.bytes.length && received <= payload.chunk.length;
    if (!isWhole && !this.#opaque) this.#becomeOpaque();
    return more;
  }

  #becomeOpaque(): void {
    this.#opaque = true;
    // By `response.on`, which `compression` replaces by one for the stream that holds the bytes.
    this.#response.on('drain', () => this.#owner.drained());
  }

  /** Bytes that Node got: those that the socket was given, and those that Node's response or stream still holds. */
  get #received(): number {
    if (this.#http2 !== undefined) return this.#http2.writableLength;
    return this.#socket.bytesWritten - this.#socket.writableLength + this.#response.writableLength;
  }

  #look(): Written {
    const fault = this.#fault();
    if (fault !== undefined) return fault;
    if (this.#isEmpty) return 'taken';
    if (!this.#callsBack) this.#ask();
    return 'pending';
  }

  #ask(): void {
    (this.#http2 ?? this.#socket).write('', this.#onTaken);
  }

  // A client that has closed its half may still read what is in flight: only what is broken is not asked again.
  readonly #onTaken = (): void => {
    if (this.#opaque || this.#isBroken) return;
    if (!this.#isEmpty) {
      if ((this.#http2 ?? this.#socket).writable) this.#ask();
    } else if (this.#http2 === undefined) this.#owner.drained();
    else confirm(this);
  };

  /** The connection did not fail by now. */
  confirmed(): void {
    if (!this.#isBroken) this.#owner.drained();
  }

  get #isEmpty(): boolean {
    return (this.#http2 ?? this.#response).writableLength === 0;
  }

  #fault(): 'closed' | 'error' | undefined {
    const { writableEnded } = this.#response;
    if (this.#http2 === undefined) return writableEnded ? 'closed' : faultOf(this.#socket);
    if (this.#http2.errored) return 'error';
    return this.#http2.destroyed || writableEnded ? 'closed' : undefined;
  }

  get #isBroken(): boolean {
    const { destroyed, errored } = this.#http2 ?? this.#socket;
    // The stream of HTTP/2 is destroyed some ticks after the socket.
    return destroyed || errored !== null || this.#http2?.session?.socket.destroyed === true;
  }
}
