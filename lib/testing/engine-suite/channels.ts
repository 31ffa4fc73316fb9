import { deepEqual, equal, ok } from 'node:assert/strict';
import type { Retained, Terms } from '../../core/backplane.js';
import { type Player, TERMS } from './player.js';
import { any, remote, type Scene, type Stage } from './stage.js';

// Not less: an engine may give its server a part of that for an answer, and the machine may be busy.
const LEASE = 2000;
const OWN_TERMS: Terms = { log: { frames: 7, bytes: 4096, age: null }, lag: 'latest', rewind: 3 };

export const channels: readonly Scene[] = [
  any('a channel that a node holds is found by any other, on its terms', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.make('news', OWN_TERMS);
    await bob.create('sport');
    for (const node of [ann, bob]) {
      const found = await node.find('news', 'weather', 'sport');
      deepEqual(
        found,
        new Map([
          ['news', OWN_TERMS],
          ['sport', TERMS],
        ]),
      );
    }
  }),

  any('nothing is found of what nobody holds', async (stage) => {
    const [ann] = await stage.nodes('ann');
    equal((await ann.find('news', '__proto__', 'constructor')).size, 0);
    equal((await ann.find()).size, 0);
  }),

  remote('to look at a channel, or to subscribe to it, does not make it', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.listen(['news']);
    equal((await bob.find('news')).size, 0);
  }),

  any('a thousand channels can be held and found at once', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    const chanIds = Array.from({ length: 1000 }, (_, index) => `room ${index}`);
    await ann.create(...chanIds);
    deepEqual([...(await bob.find(...chanIds)).keys()].toSorted(), chanIds.toSorted());
  }),

  any('a channel that has ended is not found, until it is held afresh', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news', 'sport');
    await bob.append('news', '1');
    await bob.append('news', null);
    deepEqual([...(await bob.find('news', 'sport')).keys()], ['sport']);
    await ann.create('news');
    equal((await bob.find('news')).size, 1);
  }),

  remote('who holds a channel that has ended is told so, and does not revive it', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news', 'sport', 'weather');
    const { seq } = await ann.append('sport', null);
    deepEqual(await bob.hold(['news', 'sport', 'weather']), new Map([['sport', seq]]));
    equal((await bob.find('sport')).size, 0);
    await bob.make('sport');
    deepEqual(await ann.hold(['sport']), new Map());
  }),

  remote('to hold a channel again takes nothing from it', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    await ann.append('news', '1');
    await bob.create('news');
    deepEqual(await ann.hold(['news']), new Map());
    equal((await bob.retained('news')).entries.length, 1);
  }),

  remote('who makes a channel is told up to where ends are of earlier ones of its name', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    const first = await ann.make('news');
    await ann.append('sport', '1');
    const joined = await bob.make('news');
    const { seq: end } = await ann.append('news', null);
    const next = await bob.make('news');
    const again = await ann.make('news');
    ok(first < end && joined < end, `it ended at ${end}, but had begun at ${first} and ${joined}`);
    ok(next >= end && again >= end, `another one ended at ${end}, and it had begun at ${next} and ${again}`);
  }),

  any('that a channel is made reaches every other node, and once', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news', 'sport');
    await bob.hold(['news']);
    await bob.caughtUp();
    deepEqual(bob.madeChannels, ['news', 'sport']);
    await bob.append('news', null);
    await ann.create('news');
    await bob.caughtUp();
    deepEqual(bob.madeChannels, ['news', 'sport', 'news']);
  }),

  any('that a channel is made is told with its terms, and where the order stood', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.make('news', OWN_TERMS);
    await ann.append('news', '1');
    const { seq: end } = await ann.append('news', null);
    await ann.make('news', TERMS);
    await bob.listen(['news']);
    await ann.append('news', '2');
    await bob.caughtUp();
    const [first, second] = bob.creations;
    deepEqual([first?.terms, second?.terms], [OWN_TERMS, TERMS]);
    deepEqual([first?.epoch, second?.epoch], [ann.epoch, ann.epoch]);
    const { last = 0, made, lastEnd = 0 } = second ?? {};
    ok(last >= end && lastEnd >= end, `it ended at ${end}, and was made anew at ${last}, behind ${lastEnd}`);
    equal(made, last, 'nothing stands behind where it was made');
    equal(bob.entries.find(({ body }) => body === '2')?.previous, last);
  }),

  remote('that a channel is made arrives where it stands in the order', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('sport');
    await bob.listen(['news', 'sport']);
    const order: string[] = [];
    bob.onReceive = ({ body }) => order.push(`${body} behind ${bob.madeChannels.length}`);
    await ann.append('sport', '1');
    await ann.create('news');
    await ann.append('news', '2');
    await bob.caughtUp();
    deepEqual(order, ['1 behind 1', '2 behind 2']);
  }),

  any(
    'the position of an end is remembered, also when the next channel of the name is there',
    async (stage) => {
      const [ann, bob] = await stage.nodes('ann', 'bob');
      await ann.create('news');
      await bob.caughtUp();
      equal((await bob.findings('news', 'sport')).names.get('news')?.lastEnd, 0);
      const { seq } = await ann.append('news', null);
      const { epoch, forgotten, names } = await bob.findings('news', 'sport');
      deepEqual([epoch, names.get('news')?.lastEnd], [ann.epoch, seq]);
      ok(forgotten < seq, `ends up to ${forgotten} are forgotten, and one at ${seq} has to be remembered`);
      equal(names.get('sport'), undefined);
      await ann.create('news');
      equal((await bob.findings('news')).names.get('news')?.lastEnd, seq);
    },
  ),

  remote('a channel that has ended lingers with its end, for the time that the end named', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.make('news', OWN_TERMS);
    await ann.append('news', '1', { bounds: OWN_TERMS.log });
    await ann.append('news', null, { bounds: OWN_TERMS.log, linger: 400 });
    const found = (await bob.findings('news')).names.get('news');
    deepEqual(found?.terms, OWN_TERMS);
    ok(
      found?.linger !== undefined && found.linger > 0 && found.linger <= 400,
      `it lingers for ${found?.linger} ms`,
    );
    const { entries } = await bob.retained('news');
    deepEqual(
      entries.map(({ body, linger }) => [body, linger]),
      [
        ['1', undefined],
        [null, 400],
      ],
    );
    await stage.watch.eventually('a channel to linger no more', async () => {
      const { linger = 0 } = (await bob.findings('news')).names.get('news') ?? {};
      return linger === 0;
    });
  }),

  remote(
    'what is retained tells where its channel was made, and where the last one had ended',
    async (stage) => {
      const [ann, bob] = await stage.nodes('ann', 'bob');
      await ann.create('news', 'sport');
      const { seq } = await ann.append('sport', '1');
      const start = seq - 1;
      await ann.append('news', '2');
      const end = await ann.append('news', null);
      const between = await ann.append('sport', '3');
      await ann.create('news', 'weather');
      await ann.append('news', '4');
      deepEqual(marksOf(await bob.retained('sport')), [0, start, start]);
      deepEqual(marksOf(await bob.retained('news')), [end.seq, end.seq, end.seq]);
      deepEqual(marksOf(await bob.retained('weather')), [0, between.seq, start]);
    },
  ),

  any('the nodes are those that are there', async (stage) => {
    const [ann, bob, cy] = await stage.nodes('ann', 'bob', 'cy');
    for (const node of [ann, bob, cy]) deepEqual(await node.nodes(), idsOf(ann, bob, cy));
    await bob.close();
    for (const node of [ann, cy]) deepEqual(await node.nodes(), idsOf(ann, cy));
  }),

  remote('a node that is silent for its lease is listed no more, and no other', async (stage) => {
    const [ann, bob] = [await stage.node('ann', { lease: LEASE }), await stage.node('bob', { lease: LEASE })];
    await ann.create('news');
    await bob.listen(['news'], 4);
    const began = performance.now();
    equal(bob.link.lease, LEASE, 'the engine of the test must take the lease that it is asked to');
    // An engine may give a new lease to all, if this process has stood still for longer than the lease.
    await stage.watch.eventually('a silent node not to be listed', async () => {
      await ann.listen(['news'], 2);
      // `append` may still name the silent node, because its process may continue.
      const { nodes } = await ann.append('news', '1', { asks: true });
      equal(nodes.get(ann.id), 2, 'a node that syncs is alive');
      if ((await ann.nodes()).includes(bob.id)) return false;
      ok(performance.now() - began > LEASE * 0.8, 'a node was taken for dead before its lease was over');
      return true;
    });
    await bob.sync();
    deepEqual(await ann.nodes(), idsOf(ann, bob));
  }),

  remote('a channel is not forgotten while a node holds it', (stage) =>
    keeps(stage, async (ann) => {
      deepEqual(await ann.hold(['news'], OWN_TERMS), new Map());
    }),
  ),

  remote('a channel is not forgotten while a node asks for it in sync()', (stage) =>
    keeps(stage, async (ann) => {
      await ann.sync([['news', null]]);
    }),
  ),
];

/** A channel that is kept is found on its terms, with all that it retains, after it might have been forgotten. */
async function keeps(stage: Stage, keep: (ann: Player) => Promise<void>): Promise<void> {
  const ann = await stage.node('ann', { keep: 500 });
  equal(ann.link.keep, 500, 'the engine of the test must take the time to keep that it is asked to');
  await ann.make('news', OWN_TERMS);
  const { seq } = await ann.append('news', '1', { bounds: OWN_TERMS.log });
  const began = performance.now();
  await stage.watch.eventually('the time to pass that a channel is kept', async () => {
    await keep(ann);
    deepEqual(await ann.find('news'), new Map([['news', OWN_TERMS]]));
    return performance.now() - began > 1200;
  });
  const { last, entries } = await ann.retained('news');
  deepEqual([last, entries.length], [seq, 1]);
}

const idsOf = (...nodes: readonly Player[]): readonly string[] => nodes.map(({ id }) => id).toSorted();

const marksOf = ({ begun, made, lastEnd }: Retained): readonly number[] => [begun, made, lastEnd];
