import type { Channel } from '../channels/channel.js';
import { isChannelName } from '../channels/channels.js';
import { CometError, InvalidClientError } from '../core/errors.js';
import type { Events } from '../core/events.js';
import type { PublisherSettings } from '../core/options.js';
import { Deferred, type Outcome } from '../core/outcome.js';
import { isAnswerable, type Request, type Response, turnOf } from '../transport/stream.js';
import { authorization, hasExpired } from './authorization.js';
import { textOf } from './body.js';
import { digest, Idempotency, keyOf } from './idempotency.js';
import { find, type Realm } from './locate.js';
import { attempt, type Handler, later, Refusal, Reply, refusalOf, send } from './reply.js';
import { refusalOfOtherOrigin } from './same-origin.js';
import { type Address, addressOf } from './target.js';

/** A hub, as far as one can publish on it. */
export interface Press extends Realm {
  readonly events: Events;
  readonly maxFrame: number;
  isClosed(): boolean;
}

const FORBIDDEN = 'You may not publish on this.';

/** What a request wants written, but for the text. */
interface Order {
  readonly chanId: string;
  readonly event: string | undefined;
  readonly key: string | undefined;
  /** It waits for no outcome. */
  readonly isAsync: boolean;
}

/** The handler of `push.publisher()`. */
export function publisher(press: Press, settings: PublisherSettings): Handler {
  const idempotency = new Idempotency(settings.idempotency);
  return (request, response, next) => {
    const address = addressOf(request);
    if (address.segments.length > 1 && next !== undefined) {
      next();
      return;
    }
    const publishing = new Publishing(press, settings, idempotency, request, response);
    const answer = (reply: Reply | undefined) => send(request, response, reply);
    const work = () => publishing.publish(address);
    attempt(work, answer, next, press.events, 'It could not be decided whether you may publish this.');
  };
}

/** One request to publish something. */
class Publishing {
  readonly #press: Press;
  readonly #settings: PublisherSettings;
  readonly #idempotency: Idempotency;
  readonly #request: Request;
  readonly #response: Response;

  constructor(
    press: Press,
    settings: PublisherSettings,
    idempotency: Idempotency,
    request: Request,
    response: Response,
  ) {
    this.#press = press;
    this.#settings = settings;
    this.#idempotency = idempotency;
    this.#request = request;
    this.#response = response;
  }

  /** Returns `undefined` where nobody is there any more to have an answer; nothing was written then. */
  async publish(address: Address): Promise<Reply | undefined> {
    const order = this.#orderOf(address);
    if (order instanceof Refusal) return order;

    // Before authorize is asked, as for a stream; and what is pipelined is written in its order.
    await turnOf(this.#response);
    if (!isAnswerable(this.#request, this.#response)) return undefined;
    const expires = await authorization(
      () => this.#settings.authorize(this.#request as never, order.chanId),
      FORBIDDEN,
    );
    if (expires instanceof Refusal) return expires;
    if (!isAnswerable(this.#request, this.#response)) return undefined;
    const text = await textOf(this.#request, this.#press.maxFrame);
    if (typeof text !== 'string') return text;
    const channel = await find(this.#press, order.chanId);
    if (channel === null || this.#press.isClosed()) return unavailable();
    if (hasExpired(expires)) return new Refusal(403, 'FORBIDDEN', FORBIDDEN);
    if (channel === undefined) return new Refusal(404, 'UNKNOWN_CHANNEL', 'There is no such channel.');
    return this.#write(channel, text, order);
  }

  #orderOf({ segments, parameters }: Address): Order | Refusal {
    const { method, headers } = this.#request;
    if (segments.length > 1) return new Refusal(404, 'NOT_FOUND', 'There is nothing here.');
    if (this.#press.isClosed()) return unavailable();
    if (method !== 'POST') {
      return new Refusal(405, 'METHOD_NOT_ALLOWED', 'Publish by POST.', { Allow: 'POST' });
    }
    const foreign = refusalOfOtherOrigin(this.#request);
    if (foreign !== undefined) return foreign;

    if (segments.length === 0) return new Refusal(400, 'NO_CHANNEL', 'Name a channel: /ID.');
    const named = parameters.filter(([name]) => name === 'event').map(([, value]) => value);
    const [chanId] = segments;
    if (chanId === undefined || named.includes(undefined)) {
      return new Refusal(400, 'MALFORMED', 'The percent-encoding is malformed.');
    }
    if (!isChannelName(chanId)) {
      return new Refusal(
        400,
        'INVALID_CHANNEL_NAME',
        'A chan_id has 1 to 256 units, none of them a control.',
      );
    }
    const inHeader = headers['comet-event'] as string | undefined;
    const events = new Set(inHeader === undefined ? named : [...named, inHeader]);
    if (events.size > 1) {
      return new Refusal(
        400,
        'TWO_EVENT_NAMES',
        'The event has two names: give it one, by ?event= or Comet-Event.',
      );
    }
    // Which characters other bytes of a header are nobody says (RFC 9110 §5.5).
    if (inHeader !== undefined && !/^[ -~]*$/.test(inHeader)) {
      return new Refusal(
        400,
        'INVALID_EVENT_NAME',
        'A name that is not ASCII goes into ?event=, percent-encoded.',
      );
    }
    const key = keyOf(headers['idempotency-key'] as string | undefined);
    if (key instanceof Refusal) return key;
    const isAsync = preferences(headers.prefer as string | undefined).includes('respond-async');
    return { chanId, event: [...events][0], key, isAsync };
  }

  /** Nothing is awaited before it is written: what was checked holds. */
  #write(channel: Channel, text: string, order: Order): Promise<Reply> {
    const { chanId, event, key, isAsync } = order;
    const carryOut = async () => written(channel, text, event, isAsync);
    if (key === undefined) return carryOut();
    const client: unknown = this.#settings.client(this.#request as never);
    if (typeof client !== 'string') throw new InvalidClientError();
    // Digests, for they stay: neither what is written nor what shows who writes is kept.
    return this.#idempotency.once(
      digest(client, chanId, key),
      digest(event, text),
      performance.now(),
      carryOut,
    );
  }
}

function written(
  channel: Channel,
  text: string,
  event: string | undefined,
  isAsync: boolean,
): Reply | Promise<Reply> {
  if (channel.ended) return ended();
  const asked = isAsync ? undefined : new Deferred<Outcome>();
  try {
    channel.writeText(text, event, asked);
  } catch (error) {
    if (error instanceof CometError) return refusalOf(error);
    throw error;
  }
  if (asked !== undefined) return became(asked.promise);
  return new Reply(202, { status: 'accepted' }, { 'Preference-Applied': 'respond-async' });
}

/** Waits without the text, of which a slow listener would have many be held. */
async function became(asked: Promise<Outcome>): Promise<Reply> {
  const outcome = await asked;
  if (outcome.reasons.ended !== undefined) return ended();
  if (outcome.reasons.backplane === undefined) return new Reply(200, outcome);
  return later(503, 'BACKPLANE', 'The backplane is away and has not taken it: nothing was written.');
}

function ended(): Refusal {
  return new Refusal(404, 'CHANNEL_ENDED', 'The channel has ended: nothing was written.');
}

/** The names of what a client prefers (RFC 7240 §2). */
function preferences(header = ''): string[] {
  return header.split(',').map((preference) => /^[^;=]*/.exec(preference)?.[0].trim().toLowerCase() ?? '');
}

function unavailable(): Refusal {
  return later(503, 'UNAVAILABLE', 'Nothing can be published now.');
}
