// What the tests have a node of either version do: by the public names of the package alone, so that any build can do it.

export function actionsOf(push) {
  const told = [];
  push.on('error', (error) => told.push(`error: ${error}`));
  push.on('drop', ({ channel, cause }) => told.push(`drop on ${channel}: ${cause}`));
  push.on('gap', ({ channels }) => told.push(`gap of ${channels}`));
  push.on('backplane', ({ healthy, cause }) => {
    if (!healthy) told.push(`backplane: ${cause}`);
  });
  const writers = new Map();
  /** The channel that was opened here, or else the one that this node has found. */
  const channel = (name) => writers.get(name) ?? push.channels.find(name);
  return {
    open(name, options) {
      writers.set(name, push.channels.open(name, options));
    },
    knows: (name) => push.channels.find(name) !== undefined,
    write(name, texts) {
      for (const text of texts) channel(name).write(text);
    },
    send: (name, text, options) => channel(name).send(text, options),
    end: (name) => channel(name).end(),
    count: (name) => channel(name).countListeners(),
    health: () => push.health(),
    close: () => push.close({ drain: 1 }),
    /** What no node tells while all goes well. */
    told: () => told,
  };
}
