import type { Outcome } from '../../lib/index.js';

/** That of a write which so many streams took, and no other was there. */
export const delivered = (listeners: number): Outcome => ({
  status: 'success',
  listeners,
  delivered: listeners,
  failed: 0,
  unknown: 0,
  reasons: {},
});
