import { randomBytes } from 'node:crypto';
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import {
  createServer as createHttp2Server,
  createSecureServer,
  type Http2Server,
  type Http2ServerRequest,
  type ServerHttp2Session,
} from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { SecureVersion, TLSSocket } from 'node:tls';
import polka from '@polka/compression';
import compression from 'compression';
import httpCompression from 'http-compression';
import {
  type Connection,
  Http2Connection,
  PlainConnection,
  SecureConnection,
  type Sent,
} from './connection.js';
import { CIPHERS, type Place } from './peer.js';
import type { Transport, Via } from './plan.js';

const CONNECTION = Symbol('what is counted of a socket');
type Marked = { [CONNECTION]?: Connection };

/** The connection of a request. */
export function connectionOf({ socket }: IncomingMessage): Connection | undefined {
  return (socket as Marked)[CONNECTION];
}

/** The server of a schedule, each of whose connections is watched. */
export class WatchedServer {
  readonly server: Server;
  readonly connections = new Set<Connection>();
  readonly tls: Place['tls'];
  readonly #sessions = new Set<ServerHttp2Session>();

  constructor(
    transport: Transport,
    protocol: Place['protocol'],
    app: RequestListener,
    onStream: (sent: Sent) => void,
  ) {
    const isSecure = transport !== 'tcp' && transport !== 'unix';
    if (isSecure) this.tls = { version: transport as SecureVersion, psk: randomBytes(32) };
    this.server = this.#serverOf(protocol, app);
    this.server.on('connection', (socket: Socket) => {
      const Watched = protocol === 'HTTP/2' ? Http2Connection : isSecure ? SecureConnection : PlainConnection;
      const connection = new Watched(socket, onStream);
      (socket as Marked)[CONNECTION] = connection;
      this.connections.add(connection);
    });
    // Before Node's own, which reads requests.
    this.server.prependListener('secureConnection', (socket: TLSSocket) => {
      const connection = (socket as unknown as { _parent: Marked })._parent[CONNECTION];
      if (connection === undefined) return;
      (socket as Marked)[CONNECTION] = connection;
      connection.secure(socket);
    });
    (this.server as unknown as Http2Server).on('session', (session) => this.#sessions.add(session));
  }

  /** Ends the sessions of HTTP/2 when their streams have ended. */
  closeSessions(): void {
    for (const session of this.#sessions) session.close();
  }

  #serverOf(protocol: Place['protocol'], app: RequestListener): Server {
    const listener: RequestListener = (request, response) => {
      const { stream } = request as unknown as Partial<Http2ServerRequest>;
      const connection = connectionOf(request);
      if (connection instanceof Http2Connection && stream !== undefined) connection.stream(stream as never);
      app(request, response);
    };
    const { tls } = this;
    const secrets = tls && {
      ciphers: CIPHERS,
      minVersion: tls.version,
      maxVersion: tls.version,
      pskCallback: () => tls.psk,
    };
    if (protocol === 'HTTP/1') return secrets ? createHttpsServer(secrets, listener) : createServer(listener);
    const server = secrets
      ? createSecureServer(secrets, listener as never)
      : createHttp2Server(listener as never);
    return server as unknown as Server;
  }
}

const compressors: Partial<
  Record<Via, (request: IncomingMessage, response: ServerResponse, next: () => void) => void>
> = {
  compression: compression({ filter: () => true }) as never,
  polka: polka(),
  'polka 0': polka({ threshold: 0, brotli: true }),
  'http-compression': httpCompression() as never,
  'http-compression 0': httpCompression({ threshold: 0 }) as never,
};

/** Has a response go its way. */
export function prepare(request: IncomingMessage, response: ServerResponse, via: Via): void {
  const write = (response.write as (piece: Buffer) => boolean).bind(response);
  const end = (response.end as () => void).bind(response);
  // Its callback is lost, as that of many is.
  if (via === 'wrapped') Object.assign(response, { write: (piece: Buffer) => write(piece) });
  if (via === 'late') {
    Object.assign(response, {
      write: (piece: Buffer, callback?: () => void) => {
        setImmediate(() => write(piece));
        callback?.();
        return true;
      },
      end: (...rest: []) => setImmediate(end, ...rest),
    });
  }
  if (via === 'compression') allowTransform(response);
  compressors[via]?.(request, response, () => {});
}

/** Takes off what would keep `compression` from event streams. */
function allowTransform(response: ServerResponse): void {
  const { setHeader } = response;
  response.setHeader = (name, value) =>
    setHeader.call(response, name, name === 'Cache-Control' ? 'no-cache' : value);
}
