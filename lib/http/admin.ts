import { isChannelName } from '../channels/channels.js';
import type { Health } from '../cluster/relay.js';
import { CometError } from '../core/errors.js';
import type { Events } from '../core/events.js';
import { checkKnown } from '../core/options.js';
import { isAnswerable, type Request, type Response, turnOf } from '../transport/stream.js';
import { bodyBefore, textOf } from './body.js';
import { find, type Realm } from './locate.js';
import { attempt, type Handler, later, Refusal, Reply, refusalOf, send } from './reply.js';
import { refusalOfOtherOrigin } from './same-origin.js';
import { type Address, addressOf } from './target.js';

/** What a hub tells its administration. */
export interface Office extends Realm {
  readonly events: Events;
  readonly hub: Administered;
}

/** A hub, as far as it is administered. */
export interface Administered {
  readonly activated: boolean;
  activate(): void;
  deactivate(): void;
  setTimeout(timeout: number | null, options: { reset?: boolean | undefined }): void;
  inspect(options: { streams: boolean }): object;
  health(): Promise<Health>;
  dismiss(listener: string): boolean;
}

type Deed = (office: Office, request: Request, address: Address) => Reply | Promise<Reply | undefined>;

// What PUT /timeout has to say, with room to spare.
const BODY_BYTES = 1024;

// By path, where * is an id; and by method.
const RESOURCES: ReadonlyMap<string, Readonly<Record<string, Deed>>> = new Map([
  ['', { GET: snapshot }],
  ['health', { GET: health }],
  ['activate', { POST: activate }],
  ['deactivate', { POST: deactivate }],
  ['timeout', { PUT: putTimeout }],
  ['channels/*', { DELETE: endChannel }],
  ['listeners/*', { DELETE: dismissListener }],
]);

/** The handler of `push.admin()`. It asks nobody who they are: that is for whoever mounts it. */
export function admin(office: Office): Handler {
  return (request, response, next) => {
    const address = addressOf(request);
    const deeds = deedsOf(address);
    if (deeds === undefined && next !== undefined) {
      next();
      return;
    }
    const answer = (reply: Reply | undefined) => send(request, response, reply);
    const work = () => administer(office, request, response, address, deeds);
    attempt(work, answer, next, office.events, 'It could not be done.');
  };
}

/** Whether `/segment` is a resource. */
export function isResource(segment: string): boolean {
  return RESOURCES.has(segment);
}

function deedsOf({ segments }: Address): Readonly<Record<string, Deed>> | undefined {
  const [first = '*', ...ids] = segments;
  return RESOURCES.get(segments.length === 0 ? '' : [first, ...ids.map(() => '*')].join('/'));
}

async function administer(
  office: Office,
  request: Request,
  response: Response,
  address: Address,
  deeds: Readonly<Record<string, Deed>> | undefined,
): Promise<Reply | undefined> {
  if (deeds === undefined) return new Refusal(404, 'NOT_FOUND', 'There is nothing here.');
  // A deed may wait for the backplane: requests that are pipelined behind it must not add up.
  await turnOf(response);
  if (!isAnswerable(request, response)) return undefined;
  const methods = Object.keys(deeds).flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method]));
  const { method = '' } = request;
  if (!methods.includes(method)) {
    return new Refusal(405, 'METHOD_NOT_ALLOWED', `Ask by ${methods[0]}.`, { Allow: methods.join(', ') });
  }
  return (
    refusalOfOtherOrigin(request) ?? deeds[method === 'HEAD' ? 'GET' : method]?.(office, request, address)
  );
}

async function snapshot(office: Office, _request: Request, { parameters }: Address): Promise<Reply> {
  const asked = (flag: string) => {
    const values = parameters.filter(([name]) => name === flag).map(([, value]) => value);
    const isFlag = values.every((value) => value === '' || value === 'true' || value === 'false');
    return isFlag ? values.length > 0 && values.at(-1) !== 'false' : undefined;
  };
  const streams = asked('streams');
  const withHealth = asked('health');
  if (streams === undefined || withHealth === undefined) {
    return new Refusal(
      400,
      'MALFORMED',
      'Ask for streams or health, by their names, or with =true or =false.',
    );
  }
  const health = withHealth ? { health: await office.hub.health() } : {};
  return new Reply(200, { ...office.hub.inspect({ streams }), ...health });
}

/** Only whether it is healthy: strangers may read this, and the reason names the backplane's address, the node its machine. */
async function health({ hub }: Office): Promise<Reply> {
  const told = await hub.health();
  const healthy = told.healthy && hub.activated;
  return new Reply(healthy ? 200 : 503, { healthy });
}

function activate(office: Office): Reply {
  return tried(() => {
    office.hub.activate();
    return { activated: office.hub.activated };
  });
}

function deactivate(office: Office): Reply {
  office.hub.deactivate();
  return new Reply(200, { activated: office.hub.activated });
}

async function putTimeout(office: Office, request: Request): Promise<Reply | undefined> {
  const given = await jsonOf(request);
  if (given === undefined || given instanceof Reply) return given;
  return tried(() => {
    checkKnown(given.value, ['timeout', 'reset'], 'body');
    const { timeout, reset = false } = given.value as { timeout: number | null; reset?: boolean };
    office.hub.setTimeout(timeout, { reset });
    return { timeout, reset };
  });
}

async function endChannel(office: Office, _request: Request, { segments: [, id] }: Address): Promise<Reply> {
  if (id === undefined) return malformed();
  const channel = isChannelName(id) ? await find(office, id) : undefined;
  if (channel === null)
    return later(503, 'UNAVAILABLE', 'Whether there is such a channel can not be told now.');
  if (channel === undefined) return new Refusal(404, 'UNKNOWN_CHANNEL', 'There is no such channel.');
  channel.end();
  return new Reply(200, { channel: id });
}

function dismissListener(office: Office, _request: Request, { segments: [, id] }: Address): Reply {
  if (id === undefined) return malformed();
  if (office.hub.dismiss(id)) return new Reply(200, { listener: id });
  return new Refusal(404, 'UNKNOWN_LISTENER', 'There is no such listener on this node.');
}

function malformed(): Refusal {
  return new Refusal(400, 'MALFORMED', 'The percent-encoding is malformed.');
}

/** What a body says in JSON, also where a parser has read it before. */
async function jsonOf(request: Request): Promise<{ readonly value: unknown } | Refusal | undefined> {
  const before = bodyBefore(request);
  if (typeof before === 'object' && before !== null && !(before instanceof Uint8Array))
    return { value: before };
  const text = await textOf(request, BODY_BYTES);
  if (typeof text !== 'string') return text;
  try {
    return { value: JSON.parse(text) };
  } catch {
    return new Refusal(400, 'MALFORMED', 'The body is not JSON: send { "timeout": 60000, "reset": true }.');
  }
}

/** What it comes to, or what an error of ours refuses it by. */
function tried(work: () => object): Reply {
  try {
    return new Reply(200, work());
  } catch (error) {
    if (error instanceof CometError) return refusalOf(error);
    throw error;
  }
}
