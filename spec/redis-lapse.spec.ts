import { expect } from 'chai';
import { healthy, node, nodes, type RawRedis, rawClient, until, Watch } from './support/nodes.js';
import { delivered } from './support/outcomes.js';
import { RedisServer } from './support/redis.js';
import { cleanup } from './support/server.js';

const KEY = '{express-comet}:';
// Long enough that no look comes by itself during a test.
const LEASE = 90_000;

/** Moves the end of every lease, as a jump of Redis's clock does. */
async function jump(raw: RawRedis, milliseconds: number): Promise<void> {
  for (const { value, score } of await raw.zRangeWithScores(`${KEY}nodes`, 0, -1)) {
    await raw.zAdd(`${KEY}nodes`, { value, score: score - milliseconds });
  }
}

/** Holds the process, as a debugger does. */
function standStill(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

describe('An outcome on Redis', () => {
  it('counts the own streams also after a pause of the process that is longer than the lease', async () => {
    const redis = await RedisServer.start();
    const a = await node(redis.port, { lease: 600 });
    const news = a.push.channels.create({ name: 'news' });
    const client = await a.listen('news');
    expect(await news.send('before')).to.deep.equal(delivered(1));
    standStill(800);
    expect(await news.send('after 0')).to.deep.equal(delivered(1));
    expect(await news.send('after 1')).to.deep.equal(delivered(1));
    expect(await client.heard(3)).to.deep.equal(['before', 'after 0', 'after 1']);
  });

  it('counts the own streams also where another node has taken this one for dead', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b'], { lease: LEASE });
    const raw = await rawClient(redis);
    const atA = a!.push.channels.create({ name: 'news' });
    await healthy(a!.push);
    const atB = b!.push.channels.open('news');
    await a!.listen('news');
    expect(await atA.send('before')).to.deep.equal(delivered(1));
    await raw.zRem(`${KEY}nodes`, (await a!.push.health()).node);
    expect(await atB.send('from the other node')).to.deep.equal(delivered(0));
    const watch = await Watch.on(redis);
    expect(await atA.send('after')).to.deep.equal(delivered(1));
    // It looks at once, so that the other node counts it too.
    await watch.seen(/"HSET" "\{express-comet\}:audience:news"/);
    await healthy(a!.push);
    expect(await atB.send('from the other node')).to.deep.equal(delivered(1));
  });

  it('counts the streams of a node whose lease is over, while its connection is there', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b'], { lease: 60_000 });
    const raw = await rawClient(redis);
    const news = b!.push.channels.create({ name: 'news' });
    await healthy(b!.push);
    await a!.listen('news');
    const lapse = async () => {
      const { node } = await a!.push.health();
      await raw.zAdd(`${KEY}nodes`, { value: node, score: Date.now() - 1 });
    };
    await lapse();
    expect(await news.send('paused')).to.deep.equal(delivered(1));
    await lapse();
    // As where its process was killed: the lease was over when the connection broke.
    await redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub');
    expect((await news.send('gone')).unknown).to.equal(0);
  });

  it('counts the streams of all nodes where Redis has lost the audience of a channel', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b'], { lease: 60_000, deadline: 300 });
    const raw = await rawClient(redis);
    const news = a!.push.channels.create({ name: 'news' });
    await healthy(a!.push);
    await Promise.all([a!.listen('news'), b!.listen('news')]);
    await raw.del(`${KEY}audience:news`);
    expect(await news.send('after')).to.deep.equal(delivered(2));
    // A node without a listener does not answer: Redis can't know that it has none.
    const c = await node(redis.port, { node: 'c', lease: 60_000 });
    await healthy(c.push);
    expect(await news.send('after')).to.include({ listeners: 3, delivered: 2, unknown: 1 });
    await c.push.close();
    expect(await news.send('after')).to.deep.equal(delivered(2));
  });

  it('counts every node after a jump of the clock of Redis, forward or back', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b'], { lease: LEASE });
    const raw = await rawClient(redis);
    const news = a!.push.channels.create({ name: 'news' });
    await healthy(a!.push);
    await Promise.all([a!.listen('news'), b!.listen('news')]);
    for (const by of [24 * 3_600_000, -24 * 3_600_000]) {
      await jump(raw, by);
      expect(await news.send('after')).to.deep.equal(delivered(2));
      expect((await news.countListeners()).listeners).to.equal(2);
      const leases = await raw.zRangeWithScores(`${KEY}nodes`, 0, -1);
      for (const { score } of leases) expect(score - Date.now()).to.be.within(LEASE / 2, LEASE + 1000);
    }
  });

  it('leaves a node that was dead before the jump dead', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b'], { lease: LEASE });
    const raw = await rawClient(redis);
    const news = a!.push.channels.create({ name: 'news' });
    await healthy(a!.push);
    await Promise.all([a!.listen('news'), b!.listen('news')]);
    const dead = (await b!.push.health()).node;
    await raw.zAdd(`${KEY}nodes`, { value: dead, score: Date.now() - LEASE });
    await jump(raw, 24 * 3_600_000);
    expect((await news.send('after')).delivered).to.be.at.least(1);
    expect(await raw.zScore(`${KEY}nodes`, dead)).to.be.below(Date.now());
  });

  it('counts this node for the others as soon as its process goes on', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b'], { lease: LEASE });
    const raw = await rawClient(redis);
    const atB = b!.push.channels.create({ name: 'news' });
    await healthy(b!.push);
    await a!.listen('news');
    await raw.zRem(`${KEY}nodes`, (await a!.push.health()).node);
    expect(await atB.send('during the pause')).to.deep.equal(delivered(0));
    const now = performance.now.bind(performance);
    cleanup(() => {
      performance.now = now;
    });
    performance.now = () => now() + LEASE / 3;
    // Long before a third of the lease is over.
    await until(async () => (await atB.send('after the pause')).delivered === 1);
  });
});
