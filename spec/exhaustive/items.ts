/** What a page is given, one after the other: `open …`, an event as `a12`, `ready`, `channels …`, `end a`, `gap a`. */
export interface Item {
  readonly id?: string;
  readonly what: string;
}

/** A request: the names of `chan_id` and `new_chan_id`, and the cursors of a return and of `last_event_id`. */
export interface Ask {
  readonly names: readonly string[];
  readonly added: readonly string[];
  readonly returned: string;
  readonly own: string;
}

/** What `comet:open` says. */
export function openItem(
  id: string,
  names: readonly string[],
  carried: readonly string[],
  gaps: readonly string[],
): Item {
  return { id, what: `open ${stateOf(names, carried)} gaps ${list(gaps)}` };
}

/** What `comet:channels` says. */
export function channelsItem(names: readonly string[], carried: readonly string[]): Item {
  return { what: `channels ${stateOf(names, carried)}` };
}

function stateOf(names: readonly string[], carried: readonly string[]): string {
  return `${list(carried)} waiting ${list(names.filter((name) => !carried.includes(name)))}`;
}

function list(names: readonly string[]): string {
  return [...new Set(names)].sort().join();
}

/** What `comet:gap` says. */
export function gapItem(id: string, gaps: readonly string[]): Item {
  return { id, what: `gap ${list(gaps)}` };
}
