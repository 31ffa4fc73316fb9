import { BackplaneError, type Happened } from '../../core/errors.js';
import { VERSION } from './codec.js';

// Replies by which a server refuses its client, and what a user does about each.
const REMEDIES: readonly [reply: RegExp, what: string, remedy: string][] = [
  [/^WRONGPASS/, 'refuses the password', 'correct username and password of the client'],
  [/^NOAUTH/, 'requires a password', 'set username and password of the client'],
  [
    /^NOPERM|^ERR .*The user executing the script can't/,
    'refuses what the ACL of its user does not allow',
    'give the user the rights that docs/cluster.md lists',
  ],
  [/^OOM/, 'has no memory left', 'raise its maxmemory, or delete keys of others'],
];

const remedyOf = (message: string) => REMEDIES.find(([reply]) => reply.test(message));

/** Whether a server refuses its client by this reply until a user mends the cause. */
export const isLasting = (message: string): boolean => remedyOf(message) !== undefined;

/** Why there is no connection, with the remedy. */
export function unreachable(cause?: Error): BackplaneError {
  if (cause instanceof BackplaneError) {
    // The reply that made a call fail says more than the error of the call.
    return cause.cause instanceof Error ? unreachable(cause.cause) : cause;
  }
  const message = cause?.message ?? '';
  const why = cause === undefined ? '' : ` (${message})`;
  const found = remedyOf(message);
  const [, what, remedy] = found ?? [undefined, 'can not be reached', 'look whether it runs'];
  return new BackplaneError(`Redis ${what}${why}: ${remedy}.`, found === undefined ? 'no' : 'never', {
    cause,
  });
}

/** Why a node does not use keys of another version. */
export function otherVersion(version: string): BackplaneError {
  const message =
    `The keys in Redis are of version ${JSON.stringify(version)}, and this node knows version ${VERSION}: run one version of ` +
    'express-comet, or give this one another prefix.';
  return new BackplaneError(message, 'never');
}

/** Why Redis did not do what it was asked to, with the remedy. */
export function failed(cause: Error, happened: Happened): BackplaneError {
  const [, what, remedy] = remedyOf(cause.message) ?? [];
  const message =
    what === undefined
      ? 'Redis did not do what it was asked to: see the cause.'
      : `Redis ${what} (${cause.message}): ${remedy}.`;
  return new BackplaneError(message, happened, { cause });
}
