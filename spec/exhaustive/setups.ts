import type { Terms } from './channels.js';
import type { Setup } from './run.js';

const plain: Terms = { rewind: 0, latest: false };
const rewound: Terms = { rewind: 1, latest: false };
const twice: Terms = { rewind: 2, latest: false };
const latest: Terms = { rewind: 0, latest: true };
const newest: Terms = { rewind: 1, latest: true };

/** What is there before the first step. What takes longest comes first. */
export const setups: readonly Setup[] = [
  { terms: [rewound, rewound], steps: ['create a', 'create b', 'write a', 'write b'] },
  { terms: [newest, plain], steps: ['create a', 'create b', 'write a'] },
  { terms: [latest, twice], steps: ['create a', 'create b', 'write b', 'write b'] },
  { terms: [plain, plain], steps: ['create a', 'create b'] },
  { terms: [rewound, plain], steps: ['create b', 'write b'] },
  { terms: [plain, plain], steps: [] },
];
