import type { Channel } from '../channels/channel.js';
import { type Channels, isChannelName } from '../channels/channels.js';
import type { Relay } from '../cluster/relay.js';
import { InvalidClientError } from '../core/errors.js';
import type { RefusalCode } from '../core/events.js';
import { Listener } from '../delivery/listener.js';
import type { Roster } from '../delivery/roster.js';
import { answerHead, isAnswerable, type Request, type Response, turnOf } from '../transport/stream.js';
import { authorization } from './authorization.js';
import { locate } from './locate.js';
import { after, attempt, type Eventually, later, type Next, Refusal, send } from './reply.js';
import { acceptsEventStream, ELSEWHERE, MALFORMED, type Target, targetOf } from './target.js';

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

// What refuses a request, if anything does.
type Verdict = Eventually<Refusal<RefusalCode> | undefined>;

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
      if (refusal !== undefined) this.#refuse(request, response, refusal, channelIdsOf(target));
    };
    const work = () => this.#register(request, response, target);
    const { events } = this.#door.roster;
    attempt(work, refuse, next, events, 'It could not be decided whether you may listen to this.');
  }

  #register(request: Request, response: Response, target: ReturnType<typeof targetOf>): Verdict {
    const { settings } = this.#door.roster;
    if (target === ELSEWHERE) return new Refusal(404, 'NOT_FOUND', 'There is nothing here.');
    if (!this.#door.isOpen()) return unavailable();
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return new Refusal(405, 'METHOD_NOT_ALLOWED', 'Subscribe by GET.', { Allow: 'GET, HEAD' });
    }
    if (target === MALFORMED) return new Refusal(400, 'MALFORMED', 'The percent-encoding is malformed.');
    const refusal = misnamed(target.channelIds, settings.channelsPerStream);
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
    const asked = authorization(
      () => authorize(request as never, [...target.channelIds]),
      'You may not listen to this.',
    );
    return after(asked, (expires) =>
      expires instanceof Refusal ? expires : this.#locate(request, response, target, expires),
    );
  }

  #locate(request: Request, response: Response, target: Target, expires: number | undefined): Verdict {
    // The hub may have been closed meanwhile.
    if (!this.#door.isOpen()) return unavailable();
    return after(locate(this.#door, target.channelIds, target.cursor), (isHere) => {
      if (!isHere) return unavailable();
      // The client may have gone meanwhile, or another handler may have answered: nothing is left of it.
      if (!isAnswerable(request, response)) return undefined;
      return this.#admit(request, response, target, expires);
    });
  }

  /** From here on nothing is awaited: what was checked holds until the listener has joined. */
  #admit(
    request: Request,
    response: Response,
    target: Target,
    expires: number | undefined,
  ): Refusal<RefusalCode> | undefined {
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

  #clientOf(request: Request): string | undefined {
    const { maxListenersPerClient, client } = this.#door.roster.settings;
    if (maxListenersPerClient === null) return undefined;
    const name: unknown = client(request as never);
    if (typeof name !== 'string') throw new InvalidClientError();
    return name;
  }

  #limit(found: readonly Channel[], client: string | undefined): Refusal<RefusalCode> | undefined {
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

  #refuse(
    request: Request,
    response: Response,
    refusal: Refusal<RefusalCode>,
    channels: readonly string[],
  ): void {
    const { status, code } = refusal;
    this.#refusals.set(code, (this.#refusals.get(code) ?? 0) + 1);
    const { events } = this.#door.roster;
    if (events.has('refuse')) events.emit('refuse', { status, code, channels });
    send(request, response, refusal);
  }
}

function misnamed(channelIds: readonly string[], limit: number): Refusal<RefusalCode> | undefined {
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

function unavailable(): Refusal<RefusalCode> {
  return later(503, 'UNAVAILABLE', 'No stream can be opened now.');
}

function crowded(status: number, code: RefusalCode): Refusal<RefusalCode> {
  return later(status, code, 'There are as many streams as there may be.');
}
