import { BackplaneError } from '../../core/errors.js';

// Replies by which a server refuses its client, and what a user does about each.
const REMEDIES: readonly [reply: RegExp, what: string, remedy: string][] = [
  [/^WRONGPASS/, 'refuses the password', 'correct username and password of the client'],
  [/^NOAUTH/, 'requires a password', 'set username and password of the client'],
  [
    /^NOPERM/,
    'refuses what the ACL of its user does not allow',
    'give the user the rights that docs/cluster.md lists',
  ],
  [/^OOM/, 'has no memory left', 'raise its maxmemory, or delete keys of others'],
];

/** Why there is no connection, with the remedy. */
export function unreachable(cause?: Error): BackplaneError {
  if (cause instanceof BackplaneError) return cause;
  const message = cause?.message ?? '';
  const why = cause === undefined ? '' : ` (${message})`;
  const [, what, remedy] = REMEDIES.find(([reply]) => reply.test(message)) ?? [
    undefined,
    'can not be reached',
    'look whether it runs',
  ];
  return new BackplaneError(`Redis ${what}${why}: ${remedy}.`, 'no', { cause });
}
