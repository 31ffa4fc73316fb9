// The rooms of `lib/`, in order. A room imports itself and the rooms that stand before it, types included. A room is a
// folder, or a file of that name at the root of `lib/`, or both.
export const ROOMS = [
  ...['core', 'sse', 'transport', 'delivery', 'cluster', 'engines', 'channels', 'http'],
  ...['hub', 'metrics', 'testing', 'index'],
];

// An engine is a peer of the application's choice: it knows the contract in `core/` and no other room.
const ONLY_CORE = ['engines'];

const pathOf = (rooms) => `^lib/(?:${rooms.join('|')})(?:/|[.]ts$)`;

function allowedFor(room) {
  return ONLY_CORE.includes(room) ? ['core', room] : ROOMS.slice(0, ROOMS.indexOf(room) + 1);
}

/** @type {import('dependency-cruiser').IConfiguration} */
export default {
  forbidden: [
    ...ROOMS.map((room) => ({
      name: `${room}-imports-only-${ONLY_CORE.includes(room) ? 'core' : 'rooms-above'}`,
      severity: 'error',
      from: { path: pathOf([room]) },
      to: { path: '^lib/', pathNot: pathOf(allowedFor(room)) },
    })),
    { name: 'no-cycle', severity: 'error', from: {}, to: { circular: true } },
    { name: 'no-import-of-index', severity: 'error', from: {}, to: { path: '^lib/index[.]ts$' } },
    { name: 'no-unresolved-import', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    // TypeScript 7 has no API for a parser; swc reads the same syntax.
    parser: 'swc',
    tsPreCompilationDeps: true,
    doNotFollow: { path: '^node_modules' },
  },
};
