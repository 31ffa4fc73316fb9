import { deepEqual, equal, ok } from 'node:assert/strict';
import { any, type Scene } from './stage.js';
import type { Station, Stream } from './station.js';

const NAMES = ['ann', 'bob', 'cy'] as const;

export const hubs: readonly Scene[] = [
  any('a write on any node reaches the listeners of all, in one order', async (stage) => {
    const stations = await stage.hubs(NAMES);
    const streams = await onEach(stations, 'news');
    const channels = stations.map(({ push }) => push.channels.open('news'));
    for (let turn = 0; turn < 30; turn += 1) {
      for (const [index, channel] of channels.entries()) channel.write(`${NAMES[index]} ${turn}`);
      if (turn % 5 === 0) await streams[0]?.heard(turn * 3);
    }
    await sameOnAll(streams, 90);
    for (const name of NAMES) {
      deepEqual(
        streams[0]?.data.filter((data) => data.startsWith(name)),
        Array.from({ length: 30 }, (_, turn) => `${name} ${turn}`),
      );
    }
  }),

  any('a stream of many channels carries what several nodes write in one order', async (stage) => {
    const stations = await stage.hubs(NAMES);
    const chanIds = ['news', 'sport', 'weather'];
    for (const { push } of stations) for (const chanId of chanIds) push.channels.open(chanId);
    const streams = [];
    for (const station of [...stations, ...stations]) streams.push(await station.listen(chanIds));
    for (let turn = 0; turn < 90; turn += 1) {
      const { push } = stations[turn % 3] as Station;
      push.channels.open(chanIds[Math.floor(turn / 3) % 3] as string).write(String(turn));
    }
    await sameOnAll(streams, 90);
  }),

  any('a client goes on at any node where it stopped at another, and nothing is doubled', async (stage) => {
    const stations = await stage.hubs(NAMES);
    for (const { push } of stations) push.channels.open('news');
    const written: string[] = [];
    const write = async (count: number) => {
      for (let index = 0; index < count; index += 1) {
        written.push(String(written.length));
        // One after the other, so that it is known in which order they are to come.
        await (stations[written.length % 3] as Station).send('news', written.at(-1) ?? '');
      }
    };

    const witness = await stations[0].listen('news');
    const heard: string[] = [];
    let cursor: string | undefined;
    for (let stop = 0; stop < 9; stop += 1) {
      const stream = await (stations[stop % 3] as Station).listen('news', cursor);
      equal(stream.opening.recovered, true, `at stop ${stop}, from ${cursor}`);
      await write(4);
      await stream.heard(written.length - heard.length);
      heard.push(...stream.data);
      ({ cursor } = stream);
      await stream.close();
      await write(3);
    }
    deepEqual(heard, written.slice(0, heard.length));
    await witness.hears(...written);
  }),

  any('a client comes back to a node that had nobody listening', async (stage) => {
    const [ann, bob] = await stage.hubs(NAMES);
    const channel = ann.push.channels.open('news');
    const first = await ann.listen('news');
    for (const data of ['1', '2', '3', '4']) channel.write(data);
    await first.heard(4);
    const [[cursor] = []] = first.messages.slice(1);
    const second = await bob.listen('news', cursor);
    equal(second.opening.recovered, true);
    await second.hears('3', '4');
    deepEqual(second.messages, first.messages.slice(2));
    channel.write('5');
    await second.hears('3', '4', '5');
  }),

  any('a cursor that stands before all that is retained is a gap, on every node', async (stage) => {
    const stations = await stage.hubs(NAMES, { log: { frames: 10 } });
    stations[0].push.channels.open('news');
    const first = await stations[0].listen('news');
    await stations[0].send('news', '0');
    await first.heard(1);
    const { cursor } = first;
    for (let index = 1; index <= 40; index += 1) await stations[0].send('news', String(index));
    for (const station of stations) {
      const stream = await station.listen('news', cursor);
      deepEqual([stream.opening.recovered, stream.data], [false, []]);
    }
  }),

  any('a cursor of another epoch is a gap, on every node', async (stage) => {
    const stations = await stage.hubs(NAMES);
    stations[0].push.channels.open('news');
    for (const station of stations) {
      const stream = await station.listen('news', 'another-1');
      equal(stream.opening.recovered, false);
    }
  }),

  any('an outcome counts the listeners of all nodes, and of each where that is asked', async (stage) => {
    const [ann, bob, cy] = await stage.hubs(NAMES);
    deepEqual(await ann.send('news', 'to nobody'), outcome(0));
    await onEach([ann, bob, bob], 'news');
    deepEqual(await ann.send('news', '1'), outcome(3));
    // One that has no listeners, and has the channel all the same.
    const { perNode = {}, ...told } = await cy.send('news', '2', { perNode: true });
    deepEqual(told, outcome(3));
    const names = [await ann.name(), await bob.name()] as const;
    deepEqual(perNode[names[0]], outcome(1));
    deepEqual(perNode[names[1]], outcome(2));
  }),

  any('an outcome counts no node that has left', async (stage) => {
    const [ann, bob, cy] = await stage.hubs(NAMES);
    const streams = await onEach([ann, bob, cy], 'news');
    await bob.push.close({ drain: 1 });
    await streams[1]?.end();
    deepEqual(await ann.send('news', '1'), outcome(2));
    await sameOnAll(streams.filter((_, index) => index !== 1) as Stream[], 1);
  }),

  any('the listeners of all nodes are counted from any', async (stage) => {
    const [ann, bob, cy] = await stage.hubs(NAMES);
    ann.push.channels.open('news');
    await onEach([ann, bob, bob], 'news');
    for (const { push } of [ann, bob, cy]) {
      const { listeners, nodes, silent } = await push.channels.open('news').countListeners();
      deepEqual([listeners, silent], [3, []]);
      deepEqual(nodes, { [await ann.name()]: 1, [await bob.name()]: 2, [await cy.name()]: 0 });
    }
  }),

  any('a channel that was made on one node is found on another, by its fresh id', async (stage) => {
    const [ann, bob] = await stage.hubs(NAMES);
    const { id } = ann.push.channels.create();
    const stream = await bob.listen(id);
    deepEqual(stream.opening.channels, [id]);
    deepEqual(await ann.send(id, '1'), outcome(1));
    await stream.hears('1');
    // Whoever makes it there shares it.
    bob.push.channels.open(id).write('2');
    await stream.hears('1', '2');
  }),

  any('a channel that no node has made is found on none', async (stage) => {
    const stations = await stage.hubs(NAMES);
    stations[0].push.channels.open('news');
    for (const station of stations) equal(await station.status('sport'), 404);
  }),

  any('the end of a channel ends it on every node', async (stage) => {
    const stations = await stage.hubs(NAMES);
    const channel = stations[0].push.channels.open('news');
    const streams = await onEach(stations, 'news');
    channel.write('last');
    channel.end();
    for (const [index, { push }] of stations.entries()) {
      equal(await streams[index]?.end(), 'comet:end');
      deepEqual(streams[index]?.data, ['last']);
      equal(push.channels.find('news'), undefined);
    }
    // It lingers where it was held: a client that comes later is told of its end.
    for (const station of stations) {
      const late = await station.listen('news');
      await late.end();
      ok(late.events.some(({ event }) => event === 'comet:end'));
    }
  }),

  any('a channel of a name that has ended is a new one, on every node', async (stage) => {
    const stations = await stage.hubs(NAMES, { rewind: 9 });
    const streams = await onEach(stations, 'news');
    await stations[0].send('news', 'former');
    stations[0].push.channels.open('news').end();
    for (const stream of streams) await stream.end();
    stations[1].push.channels.create({ name: 'news' });
    await stations[1].send('news', 'new');
    const anew = await onEach(stations, 'news');
    for (const stream of anew) await stream.hears('new');
  }),

  any('what a newcomer is shown of the past it is shown on any node', async (stage) => {
    const stations = await stage.hubs(NAMES);
    stations[0].push.channels.open('news', { rewind: 2 });
    for (const data of ['1', '2', '3']) await stations[0].send('news', data);
    const streams = await onEach(stations, 'news');
    for (const stream of streams) await stream.hears('2', '3');
    await stations[0].send('news', '4');
    for (const stream of streams) await stream.hears('2', '3', '4');
    await sameOnAll(streams, 3);
  }),

  any('a node that comes later knows what was made and written before', async (stage) => {
    const [ann] = await stage.hubs(['ann']);
    ann.push.channels.open('news');
    const first = await ann.listen('news');
    for (const data of ['1', '2', '3']) await ann.send('news', data);
    await first.heard(3);
    const [late] = await stage.hubs(['late']);
    const [[cursor] = []] = first.messages;
    const stream = await late.listen('news', cursor);
    equal(stream.opening.recovered, true);
    await stream.hears('2', '3');
    late.push.channels.open('news').write('4');
    await sameOnAll([first], 4);
    await stream.hears('2', '3', '4');
  }),
];

/** A stream on each of these. */
async function onEach(stations: readonly Station[], chanId: string): Promise<readonly Stream[]> {
  const [first] = stations;
  first?.push.channels.open(chanId);
  const streams: Stream[] = [];
  for (const station of stations) streams.push(await station.listen(chanId));
  return streams;
}

/** So many messages come on each, the same ones in the same order. */
async function sameOnAll(streams: readonly Stream[], count: number): Promise<void> {
  for (const stream of streams) await stream.heard(count);
  const [first, ...others] = streams;
  for (const other of others) deepEqual(other.messages, first?.messages);
  equal(first?.messages.length, count);
  // Events of a start have no position.
  const positions = (first?.messages ?? []).filter(([id]) => !id?.includes('!'));
  const seqs = positions.map(([id]) => Number(/-(\d+)/.exec(id ?? '')?.[1]));
  ok(
    seqs.every((seq, index) => index === 0 || seq > (seqs[index - 1] as number)),
    `out of order: ${seqs}`,
  );
}

const outcome = (listeners: number) => ({
  ...{ status: 'success', listeners, delivered: listeners, failed: 0, unknown: 0, reasons: {} },
});
