import type { Channel } from './channel.js';
import { type Channels, isChannelName } from './channels.js';
import {
  BackplaneError,
  InvalidAuthorizationError,
  InvalidClientError,
  TooManyVirtualChannelsError,
} from './errors.js';
import { drawn } from './jitter.js';
import { Listener } from './listener.js';
import type { Relay } from './relay.js';
import type { Roster } from './roster.js';
import { answer, answerHead, isAnswerable, type Request, type Response, turnOf } from './stream.js';
import { acceptsEventStream, ELSEWHERE, MALFORMED, type Target, targetOf } from './target.js';

/** Passes a request on, as in Express. */
export type Next = (error?: unknown) => void;

/** What a hub tells its registration. */
export interface Door {
  readonly channels: Channels;
  readonly roster: Roster;
  readonly relay: Relay;
  /** Whether streams may be opened now. */
  isOpen(): boolean;
  /** The timeout of a new stream, in milliseconds. */
  timeout(): number | null;
}

// Spread, so that the clients that were refused together do not come back together. Seconds (RFC 9110 §10.2.3).
const RETRY_AFTER = [2, 10] as const;

class Refusal {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly message: string,
    readonly headers: Readonly<Record<string, string>> = {},
  ) {}
}

/** A request becomes a listener, or is refused. */
export class Registration {
  readonly #door: Door;
  readonly #refusals = new Map<string, number>();

  constructor(door: Door) {
    this.#door = door;
  }

  /** How many requests were refused, by code. */
  get refusals(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#refusals);
  }

  handle(request: Request, response: Response, next: Next | undefined): void {
    const target = targetOf(request);
    if (target === ELSEWHERE && next !== undefined) next();
    else void this.#answer(request, response, target, next);
  }

  /** An error of the user's own `authorize` or `client` goes to `next`, or is answered by 500 and told. */
  async #answer(
    request: Request,
    response: Response,
    target: ReturnType<typeof targetOf>,
    next: Next | undefined,
  ): Promise<void> {
    try {
      const refusal = await this.#register(request, response, target);
      if (refusal !== undefined) this.#refuse(request, response, refusal, channelIdsOf(target));
    } catch (error) {
      if (next !== undefined) {
        next(error);
        return;
      }
      this.#door.roster.events.fail(error);
      const refusal = new Refusal(500, 'INTERNAL', 'It could not be decided whether you may listen to this.');
      this.#refuse(request, response, refusal, channelIdsOf(target));
    }
  }

  async #register(
    request: Request,
    response: Response,
    target: ReturnType<typeof targetOf>,
  ): Promise<Refusal | undefined> {
    const { settings } = this.#door.roster;
    if (target === ELSEWHERE) return new Refusal(404, 'NOT_FOUND', 'There is nothing here.');
    if (!this.#door.isOpen()) return unavailable();
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return new Refusal(405, 'METHOD_NOT_ALLOWED', 'Subscribe by GET.', { Allow: 'GET, HEAD' });
    }
    if (target === MALFORMED) return new Refusal(400, 'MALFORMED', 'The percent-encoding is malformed.');

    const { channelIds } = target;
    const refusal = refusalOf(channelIds, settings.channelsPerStream);
    if (refusal !== undefined) return refusal;
    if (!acceptsEventStream(request.headers.accept)) {
      return new Refusal(406, 'NOT_ACCEPTABLE', 'A channel can be had as text/event-stream.');
    }

    // Before authorize is asked: what a client pipelines behind an open stream must cost no more than Node's own.
    await turnOf(response);
    if (!isAnswerable(request, response)) return undefined;
    const authorization = await this.#authorize(request, channelIds);
    if (authorization instanceof Refusal) return authorization;
    // The client may have gone meanwhile, or another handler may have answered: nothing is left of it.
    if (!this.#door.isOpen() || !(await this.#prepare(target))) return unavailable();
    if (!isAnswerable(request, response)) return undefined;
    return this.#admit(request, response, target, authorization);
  }

  /** Has what other nodes have made and written arrive here. Returns false where it can't. */
  async #prepare({ channelIds, cursor }: Target): Promise<boolean> {
    const { channels, relay } = this.#door;
    try {
      const unknown = new Set<string>();
      let seen = cursor;
      // Until nothing is left to wait for: while one thing is, a channel may be made here, or be let go again.
      while (true) {
        const missing = channelIds.filter((id) => channels.peek(id) === undefined && !unknown.has(id));
        if (missing.length > 0) {
          const found = await relay.find(missing);
          for (const id of missing) if (!found.has(id)) unknown.add(id);
          for (const [id, terms] of found) channels.adopt(id, terms);
          continue;
        }
        const present = channelIds.filter((id) => channels.peek(id) !== undefined);
        const readiness = relay.ready(present, seen);
        if (readiness === undefined) return true;
        await readiness;
        // That of another epoch, or of none, is no further off after a second look.
        seen = undefined;
      }
    } catch (error) {
      if (error instanceof BackplaneError || error instanceof TooManyVirtualChannelsError) return false;
      throw error;
    }
  }

  /** From here on nothing is awaited: what was checked holds until the listener has joined. */
  #admit(
    request: Request,
    response: Response,
    target: Target,
    expires: number | undefined,
  ): Refusal | undefined {
    const { channels, roster, isOpen, timeout } = this.#door;
    if (!isOpen()) return unavailable();

    const { channelIds, cursor } = target;
    const found = channelIds.map((id) => channels.peek(id)).filter((channel) => channel !== undefined);
    if (found.length === 0) return new Refusal(404, 'UNKNOWN_CHANNEL', 'There is no such channel.');
    const client = this.#clientOf(request);
    const limit = this.#limit(found, client);
    if (limit !== undefined) return limit;

    if (request.method === 'HEAD') {
      answerHead(response);
      return undefined;
    }
    const feeds = found.map((channel) => channel.feed);
    const missing = channelIds.filter((id) => channels.peek(id) === undefined);
    const admission = { request, response, feeds, missing, cursor, client, expires, timeout: timeout() };
    const listener = Listener.join(roster, admission);
    // Code of the user's that hangs on the head may have closed the door.
    if (!isOpen()) listener.evict('deactivated');
    return undefined;
  }

  /** Returns when the authorization ends, in milliseconds of `Date.now()`, if ever. */
  async #authorize(request: Request, channelIds: readonly string[]): Promise<number | undefined | Refusal> {
    const { authorize } = this.#door.roster.settings;
    const forbidden = new Refusal(403, 'FORBIDDEN', 'You may not listen to this.');
    let authorization: unknown;
    try {
      authorization = await authorize(request as never, [...channelIds]);
    } catch (error) {
      return refusalBy(error);
    }
    if (authorization === true) return undefined;
    if (authorization === false) return forbidden;
    // Anything else, such as a forgotten return, lets nobody in.
    const expires = (authorization as { expires?: unknown } | null | undefined)?.expires;
    if (!(expires instanceof Date) || Number.isNaN(expires.getTime())) throw new InvalidAuthorizationError();
    return expires.getTime() > Date.now() ? expires.getTime() : forbidden;
  }

  #clientOf(request: Request): string | undefined {
    const { maxListenersPerClient, client } = this.#door.roster.settings;
    if (maxListenersPerClient === null) return undefined;
    const name: unknown = client(request as never);
    if (typeof name !== 'string') throw new InvalidClientError();
    return name;
  }

  #limit(found: readonly Channel[], client: string | undefined): Refusal | undefined {
    const { roster } = this.#door;
    const { maxListeners, maxListenersPerChannel, maxListenersPerClient } = roster.settings;
    const reaches = (count: number, limit: number | null) => limit !== null && count >= limit;
    if (reaches(roster.size, maxListeners)) return crowded(503, 'TOO_MANY_LISTENERS');
    if (found.some((channel) => reaches(channel.listeners, maxListenersPerChannel))) {
      return crowded(503, 'TOO_MANY_LISTENERS_OF_CHANNEL');
    }
    if (client !== undefined && reaches(roster.ofClient(client), maxListenersPerClient)) {
      return crowded(429, 'TOO_MANY_LISTENERS_OF_CLIENT');
    }
    return undefined;
  }

  #refuse(request: Request, response: Response, refusal: Refusal, channels: readonly string[]): void {
    const { status, code, message, headers } = refusal;
    this.#refusals.set(code, (this.#refusals.get(code) ?? 0) + 1);
    this.#door.roster.events.emit('refuse', { status, code, channels });
    if (!isAnswerable(request, response)) return;
    const body = JSON.stringify({ error: { code, message } });
    const type = { 'Content-Type': 'application/json; charset=utf-8', 'Cache-Control': 'no-store' };
    answer(request, response, status, { ...type, ...headers }, body);
  }
}

function refusalOf(channelIds: readonly string[], limit: number): Refusal | undefined {
  if (channelIds.length === 0) return new Refusal(400, 'NO_CHANNEL', 'Name a channel: /ID, or ?chan_id=ID.');
  if (!channelIds.every(isChannelName)) {
    return new Refusal(400, 'INVALID_CHANNEL_NAME', 'A chan_id has 1 to 256 units, none of them a control.');
  }
  if (channelIds.length <= limit) return undefined;
  return new Refusal(400, 'TOO_MANY_CHANNELS', `A stream carries ${limit} channels at most: open several.`);
}

function channelIdsOf(target: ReturnType<typeof targetOf>): readonly string[] {
  return typeof target === 'symbol' ? [] : target.channelIds;
}

/** What an error of `authorize` refuses by: its `status` and `headers`, as `http-errors` and Express have them. */
function refusalBy(error: unknown): Refusal {
  const { status, headers } = (error ?? {}) as {
    status?: unknown;
    headers?: Readonly<Record<string, string>>;
  };
  if (!Number.isInteger(status) || (status as number) < 400 || (status as number) > 599) throw error;
  return new Refusal(status as number, 'FORBIDDEN', 'You may not listen to this.', headers);
}

function unavailable(): Refusal {
  return crowded(503, 'UNAVAILABLE', 'No stream can be opened now.');
}

function crowded(
  status: number,
  code: string,
  message = 'There are as many streams as there may be.',
): Refusal {
  return new Refusal(status, code, message, { 'Retry-After': String(drawn(RETRY_AFTER)) });
}
