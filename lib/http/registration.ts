import { type Channels, isChannelName } from '../channels/channels.js';
import type { Relay } from '../cluster/relay.js';
import { InvalidClientError } from '../core/errors.js';
import type { RefusalCode } from '../core/events.js';
import { drawn } from '../core/jitter.js';
import type { Ends } from '../delivery/ended.js';
import type { Feed } from '../delivery/feed.js';
import { Listener } from '../delivery/listener.js';
import type { Roster } from '../delivery/roster.js';
import { beginningOf, knownSeq, type Wish } from '../delivery/start.js';
import { encodeGone, encodeRetry } from '../sse/frame.js';
import {
  answerEmpty,
  answerHead,
  answerStream,
  isAnswerable,
  type Request,
  type Response,
  turnOf,
} from '../transport/stream.js';
import { authorization, hasExpired } from './authorization.js';
import { locate } from './locate.js';
import {
  after,
  attempt,
  type Eventually,
  later,
  type Next,
  Refusal,
  send,
  TemporaryRefusal,
} from './reply.js';
import { acceptsEventStream, ELSEWHERE, MALFORMED, type Target, targetOf } from './target.js';

/** No stream can be opened now. */
export interface Closure {
  /** The range of times after which clients that return try again, in milliseconds; `undefined` where they are to stop. */
  readonly retry: readonly [min: number, max: number] | undefined;
  /** Whether other nodes are there for them. */
  readonly isElsewhere: boolean;
}

/** What a hub tells its registration. */
export interface Door {
  readonly channels: Channels;
  readonly roster: Roster;
  readonly relay: Relay;
  /** Why no stream can be opened now; `undefined` where one can. */
  closure(): Closure | undefined;
  /** The timeout of a new stream, in milliseconds. */
  timeout(): number | null;
}

// What refuses a request, if anything does.
type Verdict = Eventually<Refusal<RefusalCode> | undefined>;

const FORBIDDEN = 'You may not listen to this.';

/** A request becomes a listener, or is refused: before its handler returns, unless something has to be waited for. */
export class Registration {
  readonly #door: Door;
  readonly #refusals = new Map<RefusalCode, number>();

  constructor(door: Door) {
    this.#door = door;
  }

  /** How many requests were refused, by code. */
  get refusals(): Readonly<Partial<Record<RefusalCode, number>>> {
    return Object.fromEntries(this.#refusals);
  }

  /** An error of the user's own `authorize` or `client` goes to `next`, or is answered by 500 and told. */
  handle(request: Request, response: Response, next: Next | undefined): void {
    const target = targetOf(request);
    if (target === ELSEWHERE && next !== undefined) {
      next();
      return;
    }
    const refuse = (refusal: Refusal<RefusalCode> | undefined) => {
      if (refusal !== undefined) this.#refuse(request, response, refusal, target);
    };
    const work = () => this.#register(request, response, target);
    const { events } = this.#door.roster;
    attempt(work, refuse, next, events, 'It could not be decided whether you may listen to this.');
  }

  #register(request: Request, response: Response, target: ReturnType<typeof targetOf>): Verdict {
    const { settings } = this.#door.roster;
    if (target === ELSEWHERE) return new Refusal(404, 'NOT_FOUND', 'There is nothing here.');
    const closure = this.#door.closure();
    if (closure !== undefined) return closed(closure);
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return new Refusal(405, 'METHOD_NOT_ALLOWED', 'Subscribe by GET.', { Allow: 'GET, HEAD' });
    }
    if (target === MALFORMED) return new Refusal(400, 'MALFORMED', 'The percent-encoding is malformed.');
    const refusal = misnamed(target, settings.channelsPerStream);
    if (refusal !== undefined) return refusal;
    if (!acceptsEventStream(target.accept)) {
      return new Refusal(406, 'NOT_ACCEPTABLE', 'A channel can be had as text/event-stream.');
    }

    // Before authorize is asked: what a client pipelines behind an open stream must cost no more than Node's own.
    const turn = turnOf(response);
    if (turn === undefined) return this.#authorize(request, response, target);
    return turn.then(() =>
      isAnswerable(request, response) ? this.#authorize(request, response, target) : undefined,
    );
  }

  #authorize(request: Request, response: Response, target: Target): Verdict {
    const { authorize } = this.#door.roster.settings;
    const asked = authorization(() => authorize(request as never, [...target.channelIds]), FORBIDDEN);
    return after(asked, (expires) =>
      expires instanceof Refusal ? expires : this.#locate(request, response, target, expires),
    );
  }

  #locate(request: Request, response: Response, target: Target, expires: number | undefined): Verdict {
    // The hub may have been closed meanwhile.
    const closure = this.#door.closure();
    if (closure !== undefined) return closed(closure);
    const awaited = () => this.#awaitedBy(request, target);
    return after(locate(this.#door, target.channelIds, target.cursor.position, awaited), (ends) => {
      const closure = this.#door.closure();
      if (closure !== undefined) return closed(closure);
      if (ends === undefined) return later(503, 'UNAVAILABLE', 'No stream can be opened now.');
      // The client may have gone meanwhile, or another handler may have answered: nothing is left of it.
      if (!isAnswerable(request, response)) return undefined;
      return this.#admit(request, response, target, expires, ends);
    });
  }

  /** From here on nothing is awaited: what was checked holds until the listener has joined. */
  #admit(
    request: Request,
    response: Response,
    target: Target,
    expires: number | undefined,
    ends: Ends,
  ): Refusal<RefusalCode> | undefined {
    const { roster, timeout } = this.#door;
    if (hasExpired(expires)) return new Refusal(403, 'FORBIDDEN', FORBIDDEN);

    const { cursor, newIds } = target;
    const { feeds, missing } = this.#find(target);
    if (feeds.length === 0)
      return this.#answerEnded(request, response, { feeds, missing, newIds, cursor, ends });
    const client = this.#clientOf(request);
    const limit = this.#limit(feeds, client);
    if (limit !== undefined) return limit;

    if (request.method === 'HEAD') {
      answerHead(response);
      return undefined;
    }
    const admission = {
      request,
      response,
      feeds,
      missing,
      newIds,
      cursor,
      ends,
      client,
      expires,
      timeout: timeout(),
    };
    const listener = Listener.join(roster, admission);
    // Code of the user's that hangs on the head may have closed the door.
    if (this.#door.closure() !== undefined) listener.evict('deactivated');
    return undefined;
  }

  /** The channels of a request, alive or lingering. One whose end its client has heard is missing, as one that never was. */
  #find({ channelIds, newIds, cursor }: Target): Pick<Wish, 'feeds' | 'missing'> {
    const { channels, roster } = this.#door;
    const seq = knownSeq(cursor, roster.sequence);
    const now = performance.now();
    const feeds: Feed[] = [];
    const missing: string[] = [];
    for (const id of channelIds) {
      const feed = channels.peek(id)?.feed ?? roster.ended.find(id, now);
      const isCarried = seq !== undefined && !newIds.has(id) && id !== cursor.restarts;
      const isRead = isCarried && feed?.endedAt !== undefined && feed.endedAt <= seq;
      if (feed === undefined || isRead) missing.push(id);
      else feeds.push(feed);
    }
    return { feeds, missing };
  }

  /** The names for which the stream of a request will wait, at once or when it has read the end of a channel. */
  #awaitedBy({ method }: Request, target: Target): readonly string[] {
    const { feeds, missing } = this.#find(target);
    // A stream that carries no channel ends.
    if (method === 'HEAD' || feeds.every(({ endedAt }) => endedAt !== undefined)) return [];
    const ended = feeds.filter(({ endedAt }) => endedAt !== undefined).map(({ chanId }) => chanId);
    return [...missing, ...ended].slice(0, this.#door.roster.waiting.room);
  }

  /** Answers a request whose names have no channel that could be carried. */
  #answerEnded(request: Request, response: Response, wish: Wish): Refusal<RefusalCode> | undefined {
    const { sequence, settings } = this.#door.roster;
    const { cursor, missing, ends } = wish;
    const { goneAt, position } = cursor;
    const { gaps } = beginningOf(wish, sequence);
    // A client that was told so comes back with that. Since then a channel may have been made, written to, and ended.
    const isNews =
      goneAt?.epoch !== sequence.epoch || missing.some((name) => ends.lastEnd(name) > goneAt.seq);
    if (gaps.length > 0 && isNews) {
      const { epoch, head } = sequence;
      this.#tell(200, 'GONE', missing);
      answerStream(request, response, {}, encodeGone(drawn(settings.retry), { epoch, seq: head }, gaps));
    } else if (position && missing.some((name) => ends.has(name))) {
      // It has heard the end of its channels. At 204 an EventSource stops (WHATWG HTML §9.2.3).
      this.#tell(204, 'ENDED', missing);
      answerEmpty(response);
    } else return new Refusal(404, 'UNKNOWN_CHANNEL', 'There is no such channel.');
    return undefined;
  }

  #clientOf(request: Request): string | undefined {
    const { maxListenersPerClient, client } = this.#door.roster.settings;
    if (maxListenersPerClient === null) return undefined;
    const name: unknown = client(request as never);
    if (typeof name !== 'string') throw new InvalidClientError();
    return name;
  }

  #limit(feeds: readonly Feed[], client: string | undefined): Refusal<RefusalCode> | undefined {
    const { roster } = this.#door;
    const { maxListeners, maxListenersPerChannel, maxListenersPerClient } = roster.settings;
    const reaches = (count: number, limit: number | null) => limit !== null && count >= limit;
    if (reaches(roster.size, maxListeners)) return crowded(503, 'TOO_MANY_LISTENERS');
    if (feeds.some((feed) => reaches(feed.listeners, maxListenersPerChannel))) {
      return crowded(503, 'TOO_MANY_LISTENERS_OF_CHANNEL');
    }
    if (client !== undefined && reaches(roster.ofClient(client), maxListenersPerClient)) {
      return crowded(429, 'TOO_MANY_LISTENERS_OF_CLIENT');
    }
    return undefined;
  }

  #refuse(
    request: Request,
    response: Response,
    refusal: Refusal<RefusalCode>,
    target: ReturnType<typeof targetOf>,
  ): void {
    const isReturn = typeof target !== 'symbol' && target.isReturn;
    const channels = typeof target === 'symbol' ? [] : target.channelIds;
    const { status, code } = refusal;
    if (!(refusal instanceof TemporaryRefusal && isReturn)) {
      this.#tell(status, code, channels);
      send(request, response, refusal);
      return;
    }
    // An EventSource stops for good at 429 and 503. After a stream that ends it comes back.
    this.#tell(200, code, channels);
    if (!isAnswerable(request, response)) return;
    const headers = refusal.isElsewhere && request.httpVersionMajor === 1 ? { Connection: 'close' } : {};
    answerStream(request, response, headers, encodeRetry(refusal.retry).toString());
  }

  #tell(status: number, code: RefusalCode, channels: readonly string[]): void {
    this.#refusals.set(code, (this.#refusals.get(code) ?? 0) + 1);
    const { events } = this.#door.roster;
    if (events.has('refuse')) events.emit('refuse', { status, code, channels });
  }
}

function misnamed({ channelIds, lacksCursor }: Target, limit: number): Refusal<RefusalCode> | undefined {
  if (channelIds.length === 0) return new Refusal(400, 'NO_CHANNEL', 'Name a channel: /ID, or ?chan_id=ID.');
  if (!channelIds.every(isChannelName)) {
    return new Refusal(400, 'INVALID_CHANNEL_NAME', 'A chan_id has 1 to 256 units, none of them a control.');
  }
  if (channelIds.length > limit) {
    return new Refusal(400, 'TOO_MANY_CHANNELS', `A stream carries ${limit} channels at most: open several.`);
  }
  if (!lacksCursor) return undefined;
  return new Refusal(
    400,
    'NO_CURSOR',
    'new_chan_id needs a cursor in last_event_id: without one, use chan_id.',
  );
}

function closed({ retry, isElsewhere }: Closure): Refusal<RefusalCode> {
  const refusal = later(503, 'UNAVAILABLE', 'No stream can be opened now.', retry, isElsewhere);
  if (retry !== undefined) return refusal;
  return new Refusal(refusal.status, refusal.code, refusal.message, refusal.headers);
}

function crowded(status: number, code: RefusalCode): Refusal<RefusalCode> {
  return later(status, code, 'There are as many streams as there may be.');
}
