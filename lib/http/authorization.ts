import { InvalidAuthorizationError } from '../core/errors.js';
import { Refusal } from './reply.js';

/**
 * Asks code of the user's whether a request may do something. Returns when that ends, in milliseconds of `Date.now()`, if
 * ever. Throws what that code throws, unless it has a status, and an InvalidAuthorizationError.
 * @param message what who may not is told
 */
export function authorization(
  ask: () => unknown,
  message: string,
): Promise<number | undefined | Refusal<'FORBIDDEN'>> | undefined {
  let answer: unknown;
  try {
    answer = ask();
  } catch (error) {
    answer = Promise.reject(error);
  }
  // What most answer, and nothing to wait for.
  return answer === true ? undefined : judged(answer, message);
}

/** Whether an authorization has ended by now: what was allowed may have waited since, for an engine or a slow body. */
export function hasExpired(expires: number | undefined): boolean {
  return expires !== undefined && expires <= Date.now();
}

async function judged(asked: unknown, message: string): Promise<number | undefined | Refusal<'FORBIDDEN'>> {
  let answer: unknown;
  try {
    answer = await asked;
  } catch (error) {
    return refusalBy(error, message);
  }
  if (answer === true) return undefined;
  if (answer === false) return new Refusal(403, 'FORBIDDEN', message);
  // Anything else, such as a forgotten return, lets nobody in.
  const expires = (answer as { expires?: unknown } | null | undefined)?.expires;
  if (!(expires instanceof Date) || Number.isNaN(expires.getTime())) throw new InvalidAuthorizationError();
  if (!hasExpired(expires.getTime())) return expires.getTime();
  return new Refusal(403, 'FORBIDDEN', message);
}

/** What an error refuses by: its `status` and `headers`, as `http-errors` and Express have them. */
function refusalBy(error: unknown, message: string): Refusal<'FORBIDDEN'> {
  const { status, headers } = (error ?? {}) as {
    status?: unknown;
    headers?: Readonly<Record<string, string>>;
  };
  if (!Number.isInteger(status) || (status as number) < 400 || (status as number) > 599) throw error;
  return new Refusal(status as number, 'FORBIDDEN', message, headers);
}
