import { deepEqual, equal, ok } from 'node:assert/strict';
import type { Entry, Retained } from '../../core/backplane.js';
import { BOUNDS } from './player.js';
import { direct, remote, type Scene } from './stage.js';

// How much more than its bounds an engine may retain: to let entries go one by one can be dear.
const SPARE = 1.25;
// So many old entries must be gone after so many appends, for an engine that lets them go in portions.
const OLD = 3000;
const APPENDS = 20;

export const retention: readonly Scene[] = [
  remote('all that was appended can be had, by any node, as it was received', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    await ann.listen(['news']);
    await ann.appendAll(numbered(1, 20));
    await bob.append('news', 'asked for', { asks: true });
    await ann.received(21);
    const { last, entries } = await bob.retained('news');
    deepEqual(entries.map(withoutAge), ann.entries.map(withoutAge));
    equal(last, entries.at(-1)?.seq);
  }),

  remote('what came after a position can be had, and after the last there is nothing', async (stage) => {
    const [ann] = await stage.nodes('ann');
    await ann.create('news');
    const { seq } = await ann.append('news', '1');
    await ann.appendAll(numbered(2, 4));
    const { last, entries } = await ann.retained('news', seq);
    deepEqual(entries.map(bodyOf), ['2', '3', '4']);
    equal(entries[0]?.previous, seq);
    deepEqual((await ann.retained('news', last)).entries, []);
  }),

  remote('of a channel that nobody knew, it is told where the order stood', async (stage) => {
    const [ann] = await stage.nodes('ann');
    await ann.create('news');
    const { seq } = await ann.append('news', '1');
    const { last, entries } = await ann.retained('sport');
    deepEqual({ last, entries }, { last: seq, entries: [] });
  }),

  remote('no more than a quarter over the bound of entries is retained, and never less', async (stage) => {
    const [ann] = await stage.nodes('ann');
    await ann.create('news');
    const bounds = { ...BOUNDS, frames: 40 };
    for (let first = 1; first < 200; first += 7) {
      await ann.appendAll(numbered(first, first + 6), bounds);
      const retained = await ann.retained('news');
      checkNewest(retained, first + 6);
      const least = Math.min(40, first + 6);
      const { length } = retained.entries;
      ok(length >= least && length <= 40 * SPARE, `${length} of ${first + 6} entries are retained`);
    }
  }),

  remote('no more than a quarter over the bound of bytes is retained, and never less', async (stage) => {
    const [ann] = await stage.nodes('ann');
    await ann.create('news');
    const bounds = { ...BOUNDS, bytes: 4000 };
    const sizes = [100, 1, 900, 10, 300];
    for (let count = 1; count <= 100; count += 1) {
      // Of two bytes each: it is bytes that are bounded.
      await ann.append('news', 'ä'.repeat((sizes[count % sizes.length] as number) / 2), { bounds });
      if (count % 3 > 0) continue;
      const { entries } = await ann.retained('news');
      const bytes = bytesOf(entries);
      ok(bytes <= 4000 * SPARE, `${bytes} bytes are retained`);
      const lost = sizes[(count - entries.length) % sizes.length] as number;
      const isLess = entries.length < count && bytes + lost <= 4000;
      ok(!isLess, `${bytes} bytes are retained, and ${lost} were let go`);
    }
  }),

  remote('what is older than the bound of age is let go, and nothing younger', async (stage) => {
    const [ann] = await stage.nodes('ann');
    await ann.create('news');
    const age = 400;
    const bounds = { ...BOUNDS, frames: 100_000, age };
    const began: number[] = Array(OLD).fill(performance.now());
    await ann.appendAll(numbered(1, OLD), bounds);
    await stage.watch.eventually('old entries to be let go', async () => {
      const now = performance.now();
      began.push(...Array(APPENDS).fill(now));
      await ann.appendAll(numbered(began.length - APPENDS + 1, began.length), bounds);
      const retained = await ann.retained('news');
      checkNewest(retained, began.length);
      const after = performance.now();
      const gone = began.length - retained.entries.length;
      ok(after - (began[gone - 1] ?? 0) >= age, 'an entry was let go that is not that old yet');
      const oldest = retained.entries[0]?.age ?? 0;
      ok(oldest <= age * SPARE + after - now, `an entry of ${oldest} ms is retained after an append`);
      return gone >= OLD;
    });
  }),

  remote('the bounds are those of the last append: fewer', async (stage) => {
    const [ann] = await stage.nodes('ann');
    await ann.create('news');
    await ann.appendAll(numbered(1, 100));
    await ann.append('news', '101', { bounds: { ...BOUNDS, frames: 8 } });
    const retained = await ann.retained('news');
    checkNewest(retained, 101);
    ok(retained.entries.length >= 8 && retained.entries.length <= 10, `${retained.entries.length} entries`);
  }),

  remote('the bounds are those of the last append: longer', async (stage) => {
    const [ann] = await stage.nodes('ann');
    await ann.create('news');
    await ann.append('news', '1', { bounds: { ...BOUNDS, age: 300 } });
    await ann.append('news', '2', { bounds: { ...BOUNDS, age: null } });
    await stage.watch.eventually('the entries to grow old', async () => {
      const { entries } = await ann.retained('news');
      deepEqual(entries.map(bodyOf), ['1', '2']);
      return (entries[0]?.age ?? 0) > 600;
    });
  }),

  remote('an entry is as old as it has been retained', async (stage) => {
    const [ann] = await stage.nodes('ann');
    await ann.create('news');
    const began = performance.now();
    await ann.append('news', '1');
    const appended = performance.now();
    await stage.watch.eventually('an entry to grow old', async () => {
      const asked = performance.now();
      const { entries } = await ann.retained('news');
      const { age } = entries[0] as Entry;
      // One that counts whole milliseconds is wrong by one of them at either end.
      ok(age >= asked - appended - 2 && age <= performance.now() - began + 2, `an age of ${age} ms`);
      return age > 50;
    });
  }),

  remote('the end of a channel is retained, for those who missed it', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    const { seq } = await ann.append('news', '1');
    const end = await ann.append('news', null);
    const { last, entries } = await bob.retained('news', seq);
    deepEqual(entries.map(bodyOf), [null]);
    equal(last, end.seq);
    deepEqual((await bob.retained('news')).entries.map(bodyOf), ['1', null]);
  }),

  remote('a channel that is held afresh shows nothing of one that has ended', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    await ann.append('news', '1');
    const end = await ann.append('news', null);
    await ann.append('sport', 'between');
    await ann.create('news');
    const { begun, last, entries } = await bob.retained('news');
    deepEqual(entries, []);
    ok(begun >= end.seq, `it begins at ${begun}, before the end of the former at ${end.seq}`);
    ok(begun <= last, `it begins at ${begun}, behind its last entry at ${last}`);
    await ann.append('news', '2');
    const retained = await bob.retained('news');
    deepEqual(retained.entries.map(bodyOf), ['2']);
    equal(retained.entries[0]?.previous, last);
  }),

  remote('a channel that is made among appends shows nothing of one that has ended', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    await ann.append('news', '1');
    await ann.append('news', null);
    await ann.make('news');
    await ann.append('news', '2');
    deepEqual((await bob.retained('news')).entries.map(bodyOf), ['2']);
  }),

  direct('what another node retains of a channel can be had', async (stage) => {
    const [ann, bob, cy] = await stage.nodes('ann', 'bob', 'cy');
    await ann.listen(['news']);
    await bob.append('news', '1');
    const { seq } = await bob.append('news', '2');
    const { last, entries = [] } = cy.link.direct?.recall('news') ?? {};
    deepEqual(entries.map(bodyOf), ['1', '2']);
    equal(last, seq);
    equal(cy.link.direct?.recall('sport'), undefined);
    equal(ann.link.direct?.recall('news'), undefined, 'what it retains itself is no answer');
  }),

  direct('of a channel whose nodes have left, or that has ended, nothing can be had', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.listen(['news', 'sport']);
    await ann.append('news', '1');
    await ann.append('sport', '2');
    await ann.append('sport', null);
    equal(bob.link.direct?.recall('sport'), undefined);
    await ann.close();
    equal(bob.link.direct?.recall('news'), undefined);
  }),

  direct('the position is that of the last append of all', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.listen(['news']);
    for (const body of ['1', '2']) {
      const { seq } = await bob.append('news', body);
      for (const node of [ann, bob]) deepEqual({ ...node.link.direct?.position }, { epoch: ann.epoch, seq });
    }
  }),
];

function numbered(first: number, last: number): (readonly [string, string])[] {
  return Array.from({ length: last - first + 1 }, (_, index) => ['news', String(first + index)]);
}

/** Those that are retained are the newest of so many, and none is missing between. */
function checkNewest({ entries, last }: Retained, count: number): void {
  const first = count - entries.length + 1;
  deepEqual(
    entries.map(bodyOf),
    numbered(first, count).map(([, body]) => body),
  );
  equal(last, entries.at(-1)?.seq);
  for (const [index, { previous }] of entries.entries()) {
    if (index > 0) equal(previous, entries[index - 1]?.seq);
  }
}

const bytesOf = (entries: readonly Entry[]): number =>
  entries.reduce((sum, { body }) => sum + Buffer.byteLength(body ?? ''), 0);

const bodyOf = ({ body }: Entry): string | null => body;

const withoutAge = ({ age, ...entry }: Entry): Omit<Entry, 'age'> => entry;
