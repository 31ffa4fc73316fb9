import type { Random } from '../support/random.js';
import type { Hubs } from './hubs.js';
import { isRequest, type Result, Run, type Setup } from './run.js';

/** A sequence after which a page has what it must not have, or lacks what it must have. */
export interface Fault {
  readonly setup: Setup;
  readonly steps: readonly string[];
  readonly fault: string;
}

/** What was played. */
export interface Figures {
  sequences: number;
  states: number;
}

interface Node {
  readonly steps: readonly string[];
  readonly next: readonly string[];
  readonly isWatched: boolean;
}

/**
 * Plays every sequence of up to so many steps behind a setup, the shortest first; from states that are equal on it goes
 * on once, and from a fault on never.
 * @param random in which order steps are tried: which of the sequences that lead to equal states is continued
 */
export async function explore(
  setup: Setup,
  steps: number,
  hubs: Hubs,
  random: Random,
  told: (fault: Fault) => void,
): Promise<Figures> {
  const seen = new Set<string>();
  const figures = { sequences: 0, states: 0 };
  let layer: Node[] = [];

  /** Plays a sequence, and keeps it where it is to be continued. */
  const play = async (sequence: readonly string[]): Promise<Result> => {
    figures.sequences += 1;
    const run = new Run(setup, hubs);
    const result = await run.play(sequence);
    const { fault, isWatched } = result;
    if (fault !== undefined) {
      hubs.discard();
      told({ setup, steps: sequence, fault });
    } else if (sequence.length < steps) {
      const { state } = run;
      if (!seen.has(state)) layer.push({ steps: sequence, next: shuffled(run.next, random), isWatched });
      seen.add(state);
    }
    await run.end();
    return result;
  };

  await play([]);
  for (let length = 1; length <= steps; length += 1) {
    const nodes = layer;
    layer = [];
    for (const node of nodes) {
      for (const step of node.next) {
        // What no page sees is no fault yet.
        const isSeen = isRequest(step) || step === 'drain' || node.isWatched;
        if (length === steps && !isSeen) continue;
        const sequence = [...node.steps, step];
        const { items, fault } = await play(sequence);
        if (!isRequest(step) || fault !== undefined || length === steps) continue;
        for (let cut = 0; cut < items.length; cut += 1) await play([...node.steps, `${step} cut ${cut}`]);
      }
    }
  }
  figures.states = seen.size;
  return figures;
}

function shuffled<T>(items: readonly T[], random: Random): T[] {
  return items
    .map((item) => ({ item, at: random.next() }))
    .sort((one, other) => one.at - other.at)
    .map(({ item }) => item);
}
