import type { CometError } from '../core/errors.js';
import type { Events } from '../core/events.js';
import { drawn } from '../core/jitter.js';
import { answer, isAnswerable, type Request, type Response } from '../transport/stream.js';

/** Passes a request on, as in Express. */
export type Next = (error?: unknown) => void;

/** Answers requests: `app.use('/admin', handler)`, or `http.createServer(handler)`. */
export type Handler = (request: Request, response: Response, next?: Next) => void;

// Spread, so that the clients that were refused together do not come back together.
const RETRY_AFTER_MS = [2000, 10_000] as const;

// What an error of ours comes to, where a request and not the program is to blame for it.
const STATUS_OF: Readonly<Record<string, number>> = {
  INVALID_OPTION: 400,
  INVALID_EVENT_NAME: 400,
  INVALID_DATA: 400,
  FRAME_TOO_LARGE: 413,
  HUB_CLOSED: 503,
};

/** A short answer, in JSON. */
export class Reply {
  constructor(
    readonly status: number,
    readonly body: unknown,
    readonly headers: Readonly<Record<string, string>> = {},
  ) {}
}

/** A request is not carried out: `{ "error": { code, message } }`. */
export class Refusal<Code extends string = string> extends Reply {
  constructor(
    status: number,
    readonly code: Code,
    readonly message: string,
    headers?: Readonly<Record<string, string>>,
  ) {
    super(status, { error: { code, message } }, headers);
  }
}

/** A refusal for the time being. */
export class TemporaryRefusal<Code extends string = string> extends Refusal<Code> {
  constructor(
    status: number,
    code: Code,
    message: string,
    /** When to come back, in milliseconds. */
    readonly retry: number,
    /** Whether to come back by another connection, which may lead to another node. */
    readonly isElsewhere: boolean,
  ) {
    super(status, code, message, { 'Retry-After': String(Math.ceil(retry / 1000)) });
  }
}

/** A refusal for the time being, that says when to come back: after a time drawn from `range`, in milliseconds. */
export function later<Code extends string>(
  status: number,
  code: Code,
  message: string,
  range: readonly [min: number, max: number] = RETRY_AFTER_MS,
  isElsewhere = false,
): TemporaryRefusal<Code> {
  return new TemporaryRefusal(status, code, message, drawn(range), isElsewhere);
}

/** What an error of ours refuses a request by. */
export function refusalOf({ code, message }: CometError): Refusal {
  return new Refusal(STATUS_OF[code] ?? 500, code, message);
}

/** Sends the answer, if there is one, and anybody still there to have it. */
export function send(request: Request, response: Response, reply: Reply | undefined): void {
  if (reply === undefined || !isAnswerable(request, response)) return;
  const { status, headers, body } = reply;
  const type = { 'Content-Type': 'application/json; charset=utf-8', 'Cache-Control': 'no-store' };
  answer(request, response, status, { ...type, ...headers }, JSON.stringify(body));
}

/** What is there already, or a promise of it where it has to be waited for. */
export type Eventually<T> = T | Promise<T>;

/** Goes on with what is there, at once unless it has to be waited for. */
export function after<T, U>(value: Eventually<T>, go: (value: T) => Eventually<U>): Eventually<U> {
  return value instanceof Promise ? value.then(go) : go(value);
}

/**
 * Does the work of a handler, and answers with what comes of it, if anything does. An error of the user's own code goes to
 * `next`, or is told, and answered by 500 with this message.
 */
export function attempt<R extends Reply>(
  work: () => Eventually<R | undefined>,
  answer: (reply: R | Refusal<'INTERNAL'> | undefined) => void,
  next: Next | undefined,
  events: Events,
  message: string,
): void {
  const fail = (error: unknown) => {
    if (next !== undefined) {
      next(error);
      return;
    }
    events.fail(error);
    answer(new Refusal(500, 'INTERNAL', message));
  };
  try {
    const done = after(work(), answer);
    if (done instanceof Promise) done.catch(fail);
  } catch (error) {
    fail(error);
  }
}
