import { deepEqual, equal, ok } from 'node:assert/strict';
import type { Entry } from '../../core/backplane.js';
import type { Player } from './player.js';
import { any, remote, type Scene } from './stage.js';

export const order: readonly Scene[] = [
  any('every node receives what all of them append at once in one order', async (stage) => {
    const nodes = await stage.nodes('ann', 'bob', 'cy');
    const chanIds = ['news', 'sport', 'weather'];
    await nodes[0].create(...chanIds);
    for (const node of nodes) await node.listen(chanIds);
    await Promise.all(nodes.map((node) => burst(node, chanIds, 60)));
    for (const node of nodes) await node.received(180);
    const [first, ...others] = nodes.map(({ entries }) => entries.map(({ age, ...entry }) => entry));
    for (const other of others) deepEqual(other, first);
    checkOrder(nodes[0].entries);
  }),

  any('what a node appends in turn stands in that order, waiting for no answer', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news', 'sport');
    await bob.listen(['news', 'sport']);
    await burst(ann, ['news', 'sport'], 200);
    await bob.received(200);
    deepEqual(
      bob.bodies(),
      Array.from({ length: 200 }, (_, index) => `${ann.id} ${index}`),
    );
  }),

  any('an append is told its own place in the order', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    await bob.listen(['news']);
    const told: number[] = [];
    for (const body of ['1', '2', '3']) told.push((await ann.append('news', body)).seq);
    await bob.received(3);
    deepEqual(
      bob.entries.map(({ seq }) => seq),
      told,
    );
  }),

  any('each entry tells of the one before it in its channel, whatever stands between', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news', 'sport');
    await bob.listen(['news']);
    const first = await ann.append('news', '1');
    for (const body of ['2', '3']) await ann.append('sport', body);
    await ann.append('news', '4');
    await bob.received(2);
    equal(bob.entries[1]?.previous, first.seq);
  }),

  any('the first entry of a channel tells of where the order stood', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('sport');
    const before = await ann.append('sport', '1');
    await bob.listen(['news']);
    const stood = bob.link.direct === undefined ? (await bob.retained('news')).last : before.seq;
    equal(stood, before.seq);
    await ann.append('sport', '2');
    await ann.append('news', '3');
    await bob.received(1);
    equal(bob.entries[0]?.previous, stood);
  }),

  any('what is appended while an entry is received stands behind it, on every node', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    for (const node of [ann, bob]) await node.listen(['news']);
    const echoes: Promise<unknown>[] = [];
    ann.onReceive = ({ body }) => {
      if (body === '1') echoes.push(ann.append('news', '2'));
    };
    await bob.append('news', '1');
    for (const node of [ann, bob]) {
      await node.received(2);
      deepEqual(node.bodies(), ['1', '2']);
    }
    await Promise.all(echoes);
  }),

  any('a node that leaves while it receives an entry is told no more, and others are', async (stage) => {
    const [ann, bob, cy] = await stage.nodes('ann', 'bob', 'cy');
    await ann.create('news');
    for (const node of [bob, cy]) await node.listen(['news']);
    const leaving: Promise<unknown>[] = [];
    bob.onReceive = () => leaving.push(bob.close());
    // At once, so that the second is on its way when the first is received.
    await ann.appendAll([
      ['news', '1'],
      ['news', '2'],
    ]);
    await Promise.all([bob.received(1), cy.received(2)]);
    await Promise.all(leaving);
    deepEqual(bob.bodies(), ['1']);
    deepEqual(cy.bodies(), ['1', '2']);
  }),

  remote('a mark stands where its snapshot was taken: all before it has come, no more', async (stage) => {
    const [ann, bob, cy] = await stage.nodes('ann', 'bob', 'cy');
    const chanIds = ['news', 'sport'];
    await ann.create(...chanIds);
    await ann.listen(chanIds);
    const appending = Promise.all([burst(bob, chanIds, 150), burst(cy, chanIds, 150)]);
    const looks = [];
    do looks.push(await ann.sync(chanIds.map((chanId) => [chanId, null])));
    while (ann.entries.length < 300);
    await appending;

    for (const { mark, head, epoch, channels } of looks) {
      const place = ann.arrivals.indexOf(mark);
      const before = entriesOf(ann.arrivals.slice(0, place));
      const behind = entriesOf(ann.arrivals.slice(place));
      equal(epoch, ann.epoch);
      ok(before.every(({ seq }) => seq <= head) && behind.every(({ seq }) => seq > head));
      deepEqual(
        channels.flatMap(({ entries }) => entries.map(({ seq }) => seq)).toSorted((a, b) => a - b),
        before.map(({ seq }) => seq),
      );
    }
  }),

  remote('a look at very many channels is a look at one moment', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    const chanIds = Array.from({ length: 600 }, (_, index) => `room ${index}`);
    const lively = [0, 200, 400, 599].map((index) => `room ${index}`);
    await ann.create(...chanIds);
    await ann.listen(lively);
    let over = false;
    const appending = (async () => {
      while (!over) for (const chanId of lively) await bob.append(chanId, 'x');
    })();
    const looks = [];
    try {
      while (looks.length < 3) looks.push(await ann.sync(chanIds.map((chanId) => [chanId, null])));
    } finally {
      over = true;
      await appending;
    }
    await ann.caughtUp();

    for (const { head, channels } of looks) {
      equal(channels.length, chanIds.length);
      const told = new Map(channels.map((channel) => [channel.chanId, channel]));
      for (const chanId of lively) {
        const seqs = ann.entries.filter((entry) => entry.chanId === chanId && entry.seq <= head).map(seqOf);
        const { entries = [], last } = told.get(chanId) ?? {};
        deepEqual(entries.map(seqOf), seqs, `what stood up to ${head} in ${chanId}`);
        if (seqs.length > 0) equal(last, seqs.at(-1), `the last of ${chanId} at ${head}`);
      }
    }
  }),
];

/** Appends so many to channels in turn. */
function burst(node: Player, chanIds: readonly string[], count: number): Promise<void> {
  return node.appendAll(
    Array.from({ length: count }, (_, index) => [
      chanIds[index % chanIds.length] as string,
      `${node.id} ${index}`,
    ]),
  );
}

/** One order of all, and in each channel a chain. */
function checkOrder(entries: readonly Entry[]): void {
  const last = new Map<string, number>();
  let head = 0;
  for (const { chanId, seq, previous, epoch } of entries) {
    ok(Number.isSafeInteger(seq) && seq > head, `${seq} comes behind ${head}`);
    equal(previous, last.get(chanId) ?? previous, `what ${seq} tells of the one before it`);
    equal(epoch, entries[0]?.epoch);
    last.set(chanId, seq);
    head = seq;
  }
}

const seqOf = ({ seq }: Entry): number => seq;

const entriesOf = (arrivals: Player['arrivals']): Entry[] =>
  arrivals.filter((arrival) => typeof arrival !== 'string');
