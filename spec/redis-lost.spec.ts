import { expect } from 'chai';
import { healthy, node, nodes, type RawRedis, rawClient, texts, until } from './support/nodes.js';
import { delivered } from './support/outcomes.js';
import { RedisServer } from './support/redis.js';

const KEY = '{express-comet}:';
// Long enough that no look comes by itself during a test.
const LEASE = 90_000;

describe('A key that Redis loses', () => {
  it('hub: a new epoch begins, every stream is told, and every write after it succeeds', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b'], { lease: LEASE });
    const raw = await rawClient(redis);
    const atA = a!.push.channels.create({ name: 'news', rewind: 1000 });
    const quiet = a!.push.channels.create({ name: 'quiet', rewind: 1000 });
    await healthy(a!.push);
    const atB = b!.push.channels.open('news');
    const client = await b!.listen('news');
    await Promise.all(texts(200).map((text) => atA.send(text)));
    await quiet.send('before');
    const before = a!.push.inspect().epoch;
    await client.heard(200);

    await raw.del(`${KEY}hub`);
    for (const text of texts(200, 200)) expect(await atA.send(text)).to.include({ failed: 0 });
    await client.until(() => client.events.some(({ event }) => event === 'comet:gap'));
    expect(a!.push.inspect().epoch).to.not.equal(before);
    await until(() => b!.push.inspect().epoch === a!.push.inspect().epoch);
    expect(await atB.send('from the other node')).to.deep.equal(delivered(1));
    expect(await quiet.send('after')).to.deep.equal(delivered(0));
    // What Redis retains of the old epoch is still there for a newcomer.
    const late = await b!.listen('quiet');
    expect(await late.heard(2)).to.deep.equal(['before', 'after']);
    const back = await a!.listen('news', client.lastEventId);
    expect(back.opening.recovered).to.equal(true);
    await Promise.all([healthy(a!.push), healthy(b!.push)]);
  });

  it('hub, while no node is there: the next ones write all the same', async () => {
    const redis = await RedisServer.start();
    const first = await node(redis.port);
    const raw = await rawClient(redis);
    const news = first.push.channels.create({ name: 'news' });
    await Promise.all(texts(100).map((text) => news.send(text)));
    await first.push.close();
    await raw.del(`${KEY}hub`);
    const second = await node(redis.port);
    const again = second.push.channels.create({ name: 'news' });
    for (const text of texts(20)) expect(await again.send(text)).to.deep.equal(delivered(0));
  });

  it('nodes: every node is counted all the same, and one that died is forgotten after its lease', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b'], { lease: LEASE });
    const raw = await rawClient(redis);
    const news = a!.push.channels.create({ name: 'news' });
    await healthy(a!.push);
    await Promise.all([a!.listen('news'), b!.listen('news')]);
    await raw.del(`${KEY}nodes`);
    expect(await news.send('after')).to.deep.equal(delivered(2));
    await raw.del(`${KEY}nodes`);
    expect((await news.countListeners()).listeners).to.equal(2);
    await raw.del(`${KEY}nodes`);
    await a!.push.health();
    expect(await raw.zCard(`${KEY}nodes`)).to.equal(2);
  });

  it('audience: the own streams are counted at once, and those of other nodes after their next look', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b'], { lease: 900 });
    const raw = await rawClient(redis);
    const news = a!.push.channels.create({ name: 'news' });
    await healthy(a!.push);
    await Promise.all([a!.listen('news'), b!.listen('news')]);
    await raw.del(`${KEY}audience:news`);
    expect((await news.send('after')).delivered).to.be.at.least(1);
    await until(async () => (await news.send('again')).delivered === 2);
  });

  it('channel: no stream hears of a gap, and the name is known again after the next look', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b'], { lease: 900 });
    const raw = await rawClient(redis);
    const news = a!.push.channels.create({ name: 'news' });
    a!.push.channels.create({ name: 'quiet' });
    await healthy(a!.push);
    const client = await b!.listen('news');
    await Promise.all(texts(50).map((text) => news.send(text)));
    await raw.del([`${KEY}channel:news`, `${KEY}channel:quiet`]);
    for (const text of texts(50, 50)) expect(await news.send(text)).to.deep.equal(delivered(1));
    expect(await client.heard(100)).to.deep.equal(texts(100));
    expect(client.events.filter(({ event }) => event === 'comet:gap')).to.deep.equal([]);
    // Nobody has listened to the other one, nor written on it.
    await until(async () => (await raw.hGet(`${KEY}channel:quiet`, 'terms')) !== null);
    const late = await b!.listen('quiet');
    expect(late.opening.channels).to.deep.equal(['quiet']);
    await until(async () => (await raw.hGet(`${KEY}channel:news`, 'terms')) !== null);
  });

  it('log: what it held is told as a gap, and the next one expires by itself', async () => {
    const redis = await RedisServer.start();
    const { push, listen } = await node(redis.port, { lease: LEASE });
    const raw = await rawClient(redis);
    const news = push.channels.create({ name: 'news' });
    const client = await listen('news');
    for (const text of texts(5)) await news.send(text);
    await raw.del(`${KEY}log:news`);
    expect(await news.send('write 5')).to.deep.equal(delivered(1));
    expect(await raw.pTTL(`${KEY}log:news`)).to.be.above(0);
    expect(await client.heard(6)).to.deep.equal(texts(6));
    const other = await node(redis.port, { lease: LEASE });
    const late = await other.listen('news', client.events[1]?.id);
    expect(late.opening.gaps).to.deep.equal(['news']);
  });
});

/** Has Redis evict some keys by its policy, among them keys of others. */
async function evictSome(raw: RawRedis): Promise<void> {
  for (const key of texts(20)) await raw.set(key, 'x'.repeat(8192), { PX: 36_000_000 });
  const memory = String(await raw.info('memory'));
  const used = Number(/used_memory:(\d+)/.exec(memory)?.[1]);
  await raw.configSet('maxmemory', String(used - 64 * 1024));
  // Redis evicts before a command that may need memory.
  await raw.set('other', 'x', { PX: 36_000_000 });
  await raw.configSet('maxmemory', '0');
}

describe('A Redis that evicts keys', () => {
  const POLICIES = ['allkeys-random', 'allkeys-lru', 'allkeys-lfu'];
  POLICIES.push('volatile-random', 'volatile-lru', 'volatile-lfu', 'volatile-ttl');
  for (const policy of POLICIES) {
    it(`by ${policy}: every outcome counts the own stream, what is missing is told as a gap, and it heals`, async () => {
      const redis = await RedisServer.start();
      const raw = await rawClient(redis);
      await raw.configSet('maxmemory-policy', policy);
      const options = { lease: 900, deadline: 1000, rewind: 0 };
      const [a, b] = await nodes(redis.port, ['a', 'b'], options);
      const names = ['one', 'two', 'three'];
      const channels = names.map((name) => a!.push.channels.create({ name }));
      await healthy(a!.push);
      const clients = await Promise.all([a!.listen(names), b!.listen(names)]);
      let evicted = 0;
      const listener = await rawClient(redis);
      await listener.pSubscribe('__keyevent@0__:evicted', (key) => {
        if (key.startsWith(KEY)) evicted += 1;
      });
      await raw.configSet('notify-keyspace-events', 'Ee');

      let written = 0;
      await until(async () => {
        for (const channel of channels) {
          const outcome = await channel.send(`write ${written}`);
          written += 1;
          if (outcome.status === 'success')
            expect(outcome.delivered, JSON.stringify(outcome)).to.be.at.least(1);
        }
        await evictSome(raw);
        return evicted >= 12;
      });

      for (const channel of channels) {
        await until(async () => (await channel.send(`write ${written++}`)).delivered === 2);
      }
      const late = await b!.listen(names);
      expect(late.opening.channels).to.have.members(names);
      for (const client of clients) {
        const last = `write ${written - 1}`;
        await client.until(() => client.messages.includes(last));
        const numbers = client.messages.map((text) => Number(text.slice(6)));
        expect(numbers).to.deep.equal([...new Set(numbers)].sort((x, y) => x - y));
        const isWhole = numbers.length === written;
        const isTold = client.events.some(({ event }) => event === 'comet:gap');
        expect(isWhole || isTold).to.equal(true);
      }
    });
  }
});
