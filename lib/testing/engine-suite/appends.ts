import { deepEqual, equal, ok } from 'node:assert/strict';
import { BackplaneError, ChannelEndedError } from '../../core/errors.js';
import type { Player } from './player.js';
import { any, remote, type Scene } from './stage.js';

export const appends: readonly Scene[] = [
  remote('what is tried again with the same number has happened once', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    await bob.listen(['news']);
    const first = await ann.append('news', '1', { number: 1 });
    await ann.append('news', '2', { number: 2 });
    const again = await ann.append('news', '1', { number: 1, again: true });
    equal(again.seq, first.seq);
    await ann.append('news', '2', { number: 2, after: 1, again: true });
    await checkBodies(bob, ['1', '2']);
  }),

  remote('what is tried again and did not happen happens', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    await bob.listen(['news']);
    await ann.append('news', '1', { number: 1, again: true });
    await ann.append('news', '2', { number: 2, after: 1, again: true });
    await checkBodies(bob, ['1', '2']);
  }),

  remote('what is tried again on a new connection has happened once', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    await bob.listen(['news']);
    const first = await ann.append('news', '1', { number: 1, asks: true });
    ann.remote.reset(new Error('a doubt'));
    await stage.watch.until('the node to be connected anew', () => ann.lives.begun === 2);
    const again = await ann.append('news', '1', { number: 1, asks: true, again: true });
    equal(again.seq, first.seq);
    deepEqual([...again.nodes], [[bob.id, 1]], 'who answers is told again');
    await checkBodies(bob, ['1']);
  }),

  remote('what may be tried again is remembered for as long as it is not settled', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    await bob.listen(['news']);
    const bodies = Array.from({ length: 300 }, (_, index) => String(index + 1));
    for (const [index, body] of bodies.entries()) {
      await ann.append('news', body, { number: index + 1, settled: Math.max(0, index - 150) });
    }
    for (let number = 151; number <= 300; number += 1) {
      await ann.append('news', String(number), { number, after: number - 1, again: true });
    }
    await checkBodies(bob, bodies);
  }),

  remote('the numbers of one node are not those of another', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    await bob.listen(['news']);
    await ann.append('news', '1', { number: 1 });
    await bob.append('news', '2', { number: 1, again: true });
    await bob.refused('no', 'news', '3', { number: 3, after: 2 });
    await checkBodies(bob, ['1', '2']);
  }),

  remote('an end that is tried again has happened once, and what stood before it', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    await bob.listen(['news']);
    const first = await ann.append('news', '1', { number: 1 });
    const end = await ann.append('news', null, { number: 2 });
    equal((await ann.append('news', '1', { number: 1, again: true })).seq, first.seq);
    equal((await ann.append('news', null, { number: 2, after: 1, again: true })).seq, end.seq);
    await checkBodies(bob, ['1', null]);
  }),

  remote('what must come after something that did not happen is refused: not yet', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    await bob.listen(['news']);
    await ann.append('news', '1', { number: 1 });
    await ann.refused('no', 'news', '3', { number: 3, after: 2 });
    await ann.refused('no', 'news', '4', { number: 4, after: 3, again: true });
    await ann.append('news', '2', { number: 2, after: 1 });
    await ann.append('news', '3', { number: 3, after: 2 });
    await checkBodies(bob, ['1', '2', '3']);
  }),

  remote('what is written for another epoch is refused: not yet', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    await bob.listen(['news']);
    await ann.refused('no', 'news', '1', { number: 1, epoch: 'another' });
    // An engine may take it for a sign that its connection is out of date.
    await stage.watch.eventually('a write of this epoch to be accepted', async () => {
      try {
        await ann.append('news', '2', { number: 2, again: true });
        return true;
      } catch (error) {
        if (error instanceof BackplaneError) return false;
        throw error;
      }
    });
    await checkBodies(bob, ['2']);
  }),

  remote('a write on a channel that has ended is refused for ever, but on a new one not', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    await bob.listen(['news']);
    await ann.append('news', null);
    for (const refusal of [
      await ann.refused('never', 'news', '1', {}),
      await bob.refused('never', 'news', '2', { asks: true }),
    ]) {
      ok(
        refusal.cause instanceof ChannelEndedError,
        'it must be said why: by a ChannelEndedError as the cause',
      );
    }
    await bob.make('news');
    await bob.append('news', '3');
    await ann.append('news', '4');
    await checkBodies(bob, [null, '3', '4']);
  }),

  remote('what is asked of a link that was closed is refused by a BackplaneError', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news');
    await bob.listen(['news']);
    await ann.close();
    const { link } = ann;
    for (const call of [
      () => ann.append('news', '1'),
      () => ann.hold(['news']),
      () => ann.find('news'),
      () => ann.remote.subscribe(['news']),
      () => ann.remote.sync([], 'mark'),
      () => link.tell(null, 'word'),
      () => link.nodes(),
    ]) {
      const error = await Promise.resolve()
        .then<unknown>(call)
        .then(
          () => undefined,
          (cause: unknown) => cause,
        );
      ok(error instanceof BackplaneError, `${call} must reject with a BackplaneError, and not: ${error}`);
    }
    await checkBodies(bob, []);
  }),

  any('who takes a write is told to who asks, and who asks to those who take it', async (stage) => {
    const [ann, bob, cy] = await stage.nodes('ann', 'bob', 'cy');
    await ann.create('news', 'sport');
    await ann.listen(['news'], 3);
    await bob.listen(['news'], 5);
    await cy.listen(['sport'], 7);
    const quiet = await cy.append('news', '1');
    equal(quiet.nodes.size, 0, 'nobody asked');
    const asked = await cy.append('news', '2', { number: 2, asks: true });
    checkRespondents(asked.nodes, [ann, 3], [bob, 5]);
    for (const node of [ann, bob]) {
      await node.received(2);
      deepEqual(
        node.entries.map(({ asker }) => asker),
        [undefined, { node: cy.id, number: 2 }],
      );
    }
  }),

  any('who has left takes no write', async (stage) => {
    const [ann, bob, cy] = await stage.nodes('ann', 'bob', 'cy');
    await ann.create('news');
    for (const node of [ann, bob, cy]) await node.listen(['news'], 2);
    await bob.close();
    checkRespondents((await ann.append('news', '1', { asks: true })).nodes, [ann, 2], [cy, 2]);
  }),

  remote(
    'who awaits a channel takes its writes from the first on, and nothing of it arrives',
    async (stage) => {
      const [ann, bob, cy] = await stage.nodes('ann', 'bob', 'cy');
      await bob.awaitChannels({ news: 3, sport: 1 });
      await cy.awaitChannels({ news: 2 });
      await cy.unsubscribe('news');
      equal((await ann.find('news')).size, 0, 'to await a channel does not make it');
      await ann.create('news');
      checkRespondents((await ann.append('news', '1', { asks: true })).nodes, [bob, 3]);
      await bob.caughtUp();
      deepEqual(bob.bodies(), []);
    },
  ),

  remote('who takes the writes of a channel takes those of the next one of its name', async (stage) => {
    const [ann, bob, cy] = await stage.nodes('ann', 'bob', 'cy');
    await ann.create('news');
    for (const node of [bob, cy]) await node.listen(['news'], 2);
    await ann.append('news', null);
    await cy.unsubscribe('news');
    await ann.create('news');
    checkRespondents((await ann.append('news', '1', { asks: true })).nodes, [bob, 2]);
  }),

  remote('a thousand channels can be awaited at once', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    const chanIds = Array.from({ length: 1000 }, (_, index) => `room ${index}`);
    await bob.awaitChannels(Object.fromEntries(chanIds.map((chanId) => [chanId, 1])));
    for (const chanId of ['room 0', 'room 999']) {
      checkRespondents((await ann.append(chanId, '1', { asks: true })).nodes, [bob, 1]);
    }
  }),

  remote('who has unsubscribed takes no write', async (stage) => {
    const [ann, bob] = await stage.nodes('ann', 'bob');
    await ann.create('news', 'sport');
    for (const node of [ann, bob]) await node.listen(['news', 'sport'], 2);
    await bob.unsubscribe('news');
    checkRespondents((await ann.append('news', '1', { asks: true })).nodes, [ann, 2]);
    checkRespondents((await ann.append('sport', '2', { asks: true })).nodes, [ann, 2], [bob, 2]);
  }),
];

/** These have come, and nothing else. */
async function checkBodies(node: Player, bodies: readonly (string | null)[]): Promise<void> {
  await node.received(bodies.length);
  await node.caughtUp();
  deepEqual(node.bodies(), bodies);
}

/** A direct link knows how many listeners there are only when they answer. */
function checkRespondents(
  nodes: ReadonlyMap<string, number>,
  ...expected: readonly (readonly [Player, listeners: number])[]
): void {
  const listed = expected.map(
    ([{ id, link }, count]) => [id, link.direct === undefined ? count : 0] as const,
  );
  deepEqual([...nodes].toSorted(), listed.toSorted());
}
