import { deepEqual, equal, ok } from 'node:assert/strict';
import { any, remote, type Scene } from './stage.js';

// What an engine may use as a separator, a wildcard or a slot; and what JavaScript has names of its own for.
const ODD_NAMES = ['a b', '{a}', 'a:b', 'a*', 'ä€😀', '__proto__', '"', 'x'.repeat(256)];
const ODD_BODIES = ['x\ny\n\n', '\n', ' ', '', '\r\n\0', '😀 ä', '{"a":"b"}', '%', 'x'.repeat(300_000)];

export const reach: readonly Scene[] = [
  any('an entry reaches every node that is subscribed, its writer included', async (stage) => {
    const [ann, bob, cy] = await stage.nodes('ann', 'bob', 'cy');
    await ann.create('news');
    for (const node of [ann, bob, cy]) await node.listen(['news']);
    const { seq } = await bob.append('news', '1\n\n');
    for (const node of [ann, bob, cy]) {
      await node.received(1);
      const [{ previous, age, ...entry } = { previous: seq, age: -1 }] = node.entries;
      deepEqual(entry, { chanId: 'news', epoch: node.epoch, seq, body: '1\n\n', asker: undefined });
      ok(previous < seq, 'an entry must tell of one before it');
      ok(age >= 0 && age < 1000, `an entry that has just been appended has an age of ${age}`);
    }
  }),

  any('an entry reaches no node that is not subscribed to its channel', async (stage) => {
    const [ann, bob, cy] = await stage.nodes('ann', 'bob', 'cy');
    await ann.create('news', 'sport');
    await bob.listen(['sport']);
    await cy.listen(['news', 'sport']);
    await ann.append('news', '1');
    await ann.append('sport', '2');
    await cy.received(2);
    await bob.received(1);
    await bob.caughtUp();
    deepEqual(bob.bodies(), ['2']);
  }),

  remote('an entry reaches a node as soon as subscribe() has resolved', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    await bob.remote.subscribe(['news']);
    await ann.append('news', '1');
    await bob.received(1);
  }),

  remote('nothing of a channel reaches a node that has unsubscribed', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news', 'sport');
    await bob.listen(['news', 'sport']);
    await ann.append('news', '1');
    await bob.received(1);
    await bob.unsubscribe('news');
    await ann.append('news', '2');
    await ann.append('sport', '3');
    await bob.received(2);
    await bob.caughtUp();
    deepEqual(bob.bodies(), ['1', '3']);
  }),

  any('the end of a channel reaches every node that has it', async (stage) => {
    const [ann, bob, cy] = await stage.nodes('ann', 'bob', 'cy');
    await ann.create('news');
    for (const node of [ann, bob, cy]) await node.listen(['news']);
    await ann.append('news', '1');
    const { seq } = await cy.append('news', null);
    for (const node of [ann, bob, cy]) {
      await node.received(2);
      deepEqual(node.bodies(), ['1', null]);
      equal(node.entries[1]?.seq, seq);
      equal(node.entries[1]?.previous, node.entries[0]?.seq);
    }
  }),

  remote('the end of a channel reaches nodes that are not subscribed to it, too', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    await ann.append('news', '1');
    const { seq } = await ann.append('news', null);
    await bob.received(1);
    await bob.caughtUp();
    const [{ chanId, epoch, body, ...entry } = { chanId: '', epoch: '', body: '', seq: 0 }] = bob.entries;
    deepEqual({ chanId, epoch, body, seq: entry.seq }, { chanId: 'news', epoch: bob.epoch, body: null, seq });
    equal(bob.entries.length, 1);
  }),

  any('a word reaches the node that it is for, or all', async (stage) => {
    const [ann, bob, cy] = await stage.nodes('ann', 'bob', 'cy');
    await ann.tell(bob, 'to bob');
    await bob.heard('to bob');
    await cy.tell(null, 'to all: {"a":1}\nä');
    await ann.heard('to all: {"a":1}\nä');
    await bob.heard('to bob', 'to all: {"a":1}\nä');
    await cy.heard('to all: {"a":1}\nä');
  }),

  any('a word for nobody is no error', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await bob.close();
    await ann.tell(bob, 'too late');
    deepEqual(bob.words, []);
  }),

  any('channels of any name carry bodies of any text', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create(...ODD_NAMES);
    await bob.listen(ODD_NAMES);
    for (const chanId of ODD_NAMES) await ann.append(chanId, `of ${chanId}`);
    for (const body of ODD_BODIES) await ann.append('a b', body);
    for (const chanId of ODD_NAMES) await ann.append(chanId, null);
    await bob.received(2 * ODD_NAMES.length + ODD_BODIES.length);
    deepEqual(bob.bodies('a b'), ['of a b', ...ODD_BODIES, null]);
    for (const chanId of ODD_NAMES.slice(1)) deepEqual(bob.bodies(chanId), [`of ${chanId}`, null]);
  }),

  any('nothing reaches a node that has left, and the others go on', async (stage) => {
    const [ann, bob, cy] = await stage.nodes('ann', 'bob', 'cy');
    await ann.create('news');
    for (const node of [ann, bob, cy]) await node.listen(['news']);
    await ann.append('news', '1');
    for (const node of [ann, bob, cy]) await node.received(1);
    await bob.close();
    await cy.append('news', '2');
    await ann.received(2);
    await ann.caughtUp();
    deepEqual(bob.bodies(), ['1']);
  }),

  remote('a node that resets its link is connected anew, and subscribed to nothing', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    await bob.listen(['news']);
    bob.remote.reset(new Error('a doubt'));
    await stage.watch.until('the node to lose its connection', () => bob.lives.lost === 1);
    await stage.watch.until('the node to be connected anew', () => bob.lives.begun === 2);
    await ann.append('news', '1');
    await bob.caughtUp();
    deepEqual(bob.bodies(), []);
    await bob.listen(['news']);
    await ann.append('news', '2');
    await bob.received(1);
    deepEqual(bob.bodies(), ['2']);
    deepEqual(ann.lives, { begun: 1, lost: 0 });
  }),
];
