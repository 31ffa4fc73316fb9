/**
 * The contract of `express-comet/backplane` as tests, for whoever writes an engine.
 * @packageDocumentation
 */

import { appends } from './engine-suite/appends.js';
import { channels } from './engine-suite/channels.js';
import { hubs } from './engine-suite/hubs.js';
import { order } from './engine-suite/order.js';
import { reach } from './engine-suite/reach.js';
import { retention } from './engine-suite/retention.js';
import { type Rig, type Scene, Stage } from './engine-suite/stage.js';
import { Watch } from './engine-suite/watch.js';

export type { Rig, Times } from './engine-suite/stage.js';

/** A test, for any framework: `it(title, run)`. */
export interface BackplaneTest {
  /** The part of the contract, a colon, and what it says. */
  readonly title: string;
  /** Rejects where the engine does not keep the contract, or takes more than 10 s. Clears up behind it. */
  run(): Promise<void>;
}

const PARTS: Readonly<Record<string, readonly Scene[]>> = {
  'who is reached': reach,
  'what is ordered': order,
  'what is retained': retention,
  'what fails, and how': appends,
  'what is known': channels,
  'between hubs': hubs,
};

/**
 * Everything that an engine between nodes must keep, as tests: first of the contract (`express-comet/backplane`),
 * then of hubs that are connected by it.
 *
 * ```js
 * const make = async () => ({ backplane: (times) => myEngine({ ...times }), close: async () => {} });
 * for (const { title, run } of backplaneSuite(make)) it(title, run);
 * ```
 * @param make makes an engine that holds nothing yet: it is called once for each test
 * @param options `direct`: whether its links are direct, within this process. Default `false`
 */
export function backplaneSuite(
  make: () => Promise<Rig>,
  { direct = false }: { readonly direct?: boolean | undefined } = {},
): readonly BackplaneTest[] {
  const form = direct ? 'direct' : 'remote';
  return Object.entries(PARTS).flatMap(([part, scenes]) =>
    scenes
      .filter((scene) => scene.of === 'any' || scene.of === form)
      .map(({ title, play }) => ({ title: `${part}: ${title}`, run: () => perform(make, direct, play) })),
  );
}

async function perform(make: () => Promise<Rig>, direct: boolean, play: Scene['play']): Promise<void> {
  const watch = new Watch();
  await watch.run(async () => {
    const rig = await watch.during('the engine to be made', make);
    watch.cleanup(() => rig.close());
    await play(new Stage(watch, rig, direct));
  });
}
