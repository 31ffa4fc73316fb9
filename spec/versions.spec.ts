import { expect } from 'chai';
import { VERSION } from '../lib/engines/redis/codec.js';
import type { EventClient } from './support/client.js';
import { bare, rawClient, texts } from './support/nodes.js';
import { delivered } from './support/outcomes.js';
import { RedisServer } from './support/redis.js';
import { fixtures, NewerNode, OlderNode, Unpacked, type VersionedNode } from './versions/nodes.js';

const KEY = '{express-comet}:';

type Play = (a: VersionedNode, b: VersionedNode, redis: RedisServer) => Promise<void>;

const ends = (client: EventClient) =>
  client.events.filter(({ event }) => event === 'comet:end').map(({ data }) => JSON.parse(data).channel);

/** A client has heard so many messages, and leaves. Returns its cursor. */
async function leave(client: EventClient, count: number): Promise<string> {
  await client.heard(count);
  const cursor = client.lastEventId;
  client.close();
  return cursor;
}

const byName = (perNode: Readonly<Record<string, unknown>> = {}) =>
  Object.fromEntries(Object.entries(perNode).map(([id, value]) => [bare(id), value]));

for (const fixture of fixtures()) {
  describe(`Beside a node of ${fixture}`, () => {
    let unpacked: Unpacked;

    before(async () => {
      unpacked = await Unpacked.of(fixture);
    });

    after(() => unpacked?.remove());

    /** Plays it with either version as the node `a`. Neither may tell an error, a gap, a drop or a warning meanwhile. */
    function bothWays(title: string, play: Play): void {
      for (const isOlder of [true, false]) {
        it(`${title} (${isOlder ? 'older to newer' : 'newer to older'})`, async () => {
          const redis = await RedisServer.start();
          const older = await OlderNode.start(unpacked, redis.port);
          const newer = await NewerNode.start(redis.port);
          await (isOlder ? play(older, newer, redis) : play(newer, older, redis));
          expect({ older: await older.close(), newer: await newer.close() }).to.deep.equal({
            older: [],
            newer: [],
          });
        });
      }
    }

    bothWays('a channel is found, and its terms hold', async (a, b) => {
      await a.ask('open', 'news', { rewind: 2 });
      for (const text of texts(3)) await a.ask('send', 'news', text);
      const client = await b.listen('news');
      expect(client.opening).to.deep.include({ channels: ['news'], waiting: [] });
      expect(await client.heard(2)).to.deep.equal(texts(2, 1));
      expect(await b.ask('knows', 'news')).to.equal(true);
    });

    bothWays('a stream that waits for a name carries its channel from the first event on', async (a, b) => {
      await a.ask('open', 'chat');
      await a.accepted();
      const client = await b.listen(['news', 'chat']);
      expect(client.opening).to.deep.include({ channels: ['chat'], waiting: ['news'] });
      await a.ask('write', 'chat', ['before']);
      await a.ask('open', 'news');
      await a.ask('write', 'news', ['first']);
      await a.ask('write', 'chat', ['after']);
      expect(await client.heard(3)).to.deep.equal(['before', 'first', 'after']);
    });

    bothWays('streams of both get what both write, once and in one order', async (a, b) => {
      await a.ask('open', 'news');
      await a.accepted();
      const clients = [await a.listen('news'), await b.listen('news')] as const;
      const writes = async (node: VersionedNode, name: string) => {
        for (let first = 0; first < 100; first += 10) {
          await node.ask(
            'write',
            'news',
            texts(10, first).map((text) => `${name} ${text}`),
          );
        }
      };
      await Promise.all([writes(a, 'a'), writes(b, 'b')]);
      const [one, other] = [await clients[0].heard(200), await clients[1].heard(200)];
      expect(one).to.deep.equal(other);
      for (const name of ['a', 'b']) {
        expect(one.filter((text) => text.startsWith(name))).to.deep.equal(
          texts(100).map((text) => `${name} ${text}`),
        );
      }
      // What came twice would come before this.
      await a.ask('send', 'news', 'last');
      for (const client of clients) {
        await client.until(() => client.messages.includes('last'));
        expect(client.messages).to.deep.equal([...one, 'last']);
      }
    });

    bothWays('the outcome of a write, and the number of listeners, are those of both', async (a, b) => {
      await a.ask('open', 'news');
      await a.accepted();
      for (const node of [a, b, b]) await node.listen('news');
      const { perNode, ...outcome } = await a.ask('send', 'news', 'text', { perNode: true });
      const { listeners, nodes, silent } = await a.ask('count', 'news');
      const [name, other] = a instanceof OlderNode ? ['older', 'newer'] : ['newer', 'older'];
      expect(outcome).to.deep.equal(delivered(3));
      expect(byName(perNode)).to.deep.equal({ [name]: delivered(1), [other]: delivered(2) });
      expect({ listeners, silent, nodes: byName(nodes) }).to.deep.equal({
        ...{ listeners: 3, silent: [], nodes: { [name]: 1, [other]: 2 } },
      });
    });

    bothWays('a client that returns gets what it missed, and nothing else', async (a, b) => {
      await a.ask('open', 'news');
      await a.accepted();
      const client = await a.listen('news');
      await b.listen('news');
      await a.ask('send', 'news', 'heard');
      const cursor = await leave(client, 1);
      for (const text of texts(10)) await (text.endsWith('5') ? b : a).ask('send', 'news', text);
      const back = await b.listen('news', cursor);
      expect(back.opening).to.deep.include({ recovered: true, gaps: [] });
      await b.ask('send', 'news', 'last');
      expect(await back.heard(11)).to.deep.equal([...texts(10), 'last']);
    });

    bothWays('a client gets what it missed of a node that has closed', async (a, b) => {
      await a.ask('open', 'news');
      await a.accepted();
      const client = await a.listen('news');
      await a.ask('send', 'news', 'heard');
      const cursor = await leave(client, 1);
      for (const text of texts(10)) await a.ask('send', 'news', text);
      await a.ask('close');
      const back = await b.listen('news', cursor);
      expect(back.opening).to.deep.include({ recovered: true, gaps: [] });
      await b.ask('send', 'news', 'last');
      expect(await back.heard(11)).to.deep.equal([...texts(10), 'last']);
    });

    bothWays('an end ends the streams of both, and is read by a client that returns', async (a, b) => {
      await a.ask('open', 'job');
      await a.accepted();
      const clients = [await a.listen('job'), await b.listen('job')];
      await a.ask('send', 'job', 'heard');
      const cursor = await leave(await a.listen('job'), 0);
      await a.ask('write', 'job', ['result']);
      await a.ask('end', 'job');
      await a.accepted();
      clients.push(await b.listen('job', cursor));
      for (const client of clients) {
        await client.ended();
        expect(client.messages.at(-1)).to.equal('result');
        expect(ends(client)).to.deep.equal(['job']);
      }
      expect(clients.map(({ messages }) => messages.length)).to.deep.equal([2, 2, 1]);
      expect(await b.ask('knows', 'job')).to.equal(false);
    });

    bothWays('what a later version may add is ignored by both', async (a, b, redis) => {
      await a.ask('open', 'news', { rewind: 1 });
      await a.accepted();
      const raw = await rawClient(redis);
      const publish = (topic: string, message: string) => raw.publish(`${KEY}0:${topic}`, message);
      const terms = JSON.parse((await raw.hGet(`${KEY}channel:news`, 'terms')) as string);
      const added = { terms: JSON.stringify({ ...terms, later: 1 }), later: '1' };
      await raw.hSet(`${KEY}channel:news`, added);
      await raw.hSet(`${KEY}hub`, 'later', '1');
      const clients = [await a.listen('news'), await b.listen('news')];
      expect(await a.ask('send', 'news', 'one')).to.deep.equal(delivered(2));

      for (const message of [
        `${VERSION} later 1 2 3`,
        `${VERSION} w {"kind":"later","node":"x"}`,
        `${VERSION + 1} e later 1 0 \ndata: later\n\n`,
        `${VERSION + 1} later`,
      ]) {
        for (const topic of ['all', 'topic:news']) await publish(topic, message);
      }
      const seq = await raw.hIncrBy(`${KEY}hub`, 'seq', 1);
      const [epoch, last] = [
        await raw.hGet(`${KEY}hub`, 'epoch'),
        await raw.hGet(`${KEY}channel:news`, 'last'),
      ];
      const entry = { p: String(last), a: '', b: 'data: two\n\n', later: '1' };
      await raw.xAdd(`${KEY}log:news`, `${seq}-${Date.now()}`, entry);
      await raw.hSet(`${KEY}channel:news`, 'last', String(seq));
      await publish('topic:news', `${VERSION} e ${epoch} ${seq} ${last}  later\n${entry.b}`);

      const cursor = clients[0]!.events[0]!.id;
      clients.push(await b.listen('news', cursor), await a.listen('news', cursor));
      expect(await b.ask('send', 'news', 'three')).to.deep.equal(delivered(4));
      for (const client of clients) expect(await client.heard(3)).to.deep.equal(['one', 'two', 'three']);
      for (const node of [a, b]) expect((await node.ask('health')).healthy).to.equal(true);
    });
  });
}
