import { monitorEventLoopDelay } from 'node:perf_hooks';
import { expect } from 'chai';
import type { CometEvents, CometOptions } from '../lib/index.js';
import { node, type TestNode, texts, until } from './support/nodes.js';
import { delivered } from './support/outcomes.js';
import { TcpProxy } from './support/proxy.js';
import { RedisServer } from './support/redis.js';

const LOG = { frames: 200_000, bytes: 2 ** 28 };

async function started(options: CometOptions = {}): Promise<{ redis: RedisServer; a: TestNode }> {
  const redis = await RedisServer.start();
  return { redis, a: await node(redis.port, { log: LOG, ...options }) };
}

/** Writes that were given up. */
function dropsOf({ push }: TestNode): CometEvents['drop'][] {
  const drops: CometEvents['drop'][] = [];
  push.on('drop', (drop) => drops.push(drop));
  return drops;
}

const isEmpty = ({ push }: TestNode) => until(() => push.inspect().backplane?.queued === 0);

/** The `seq` of the last entry. */
const headOf = async (redis: RedisServer) =>
  Number(await redis.command('HGET', '{express-comet}:hub', 'seq'));

describe('A burst of writes on a healthy Redis', () => {
  const bursts: [count: number, bytes: number, options: CometOptions][] = [
    [20_000, 1024, {}],
    [60_000, 64, {}],
    [20_000, 64, { queue: { wait: 0 } }],
  ];
  for (const [count, bytes, options] of bursts) {
    it(`of ${count} of ${bytes} B in one turn, ${JSON.stringify(options)}, loses nothing, and leaves the loop free`, async () => {
      const { redis, a } = await started(options);
      const drops = dropsOf(a);
      const news = a.push.channels.open('news');
      await a.push.health();
      const before = await headOf(redis);
      const fill = 'x'.repeat(bytes);
      for (let index = 0; index < count; index += 1) news.write(fill);
      await new Promise(setImmediate);
      const delay = monitorEventLoopDelay({ resolution: 10 });
      delay.enable();
      await isEmpty(a);
      delay.disable();
      expect(drops).to.deep.equal([]);
      expect(await headOf(redis)).to.equal(before + count);
      expect(delay.max / 1e6, 'milliseconds for which the loop was held').to.be.below(1000);
    });
  }

  it('goes out in order, and what is written meanwhile comes behind it', async () => {
    const { a } = await started({ queue: { writes: 100 } });
    const drops = dropsOf(a);
    const news = a.push.channels.open('news');
    await a.push.health();
    const client = await a.listen('news');
    for (const text of texts(5000)) news.write(text);
    await new Promise(setImmediate);
    const outcome = news.send('behind');
    expect(await outcome).to.deep.equal(delivered(1));
    expect(await client.heard(5001)).to.deep.equal([...texts(5000), 'behind']);
    expect(drops).to.deep.equal([]);
  });

  it('may follow another, once that has gone out', async () => {
    const { redis, a } = await started({ queue: { writes: 100 } });
    const drops = dropsOf(a);
    const news = a.push.channels.open('news');
    await a.push.health();
    const before = await headOf(redis);
    for (let round = 0; round < 3; round += 1) {
      for (const text of texts(1000)) news.write(text);
      await isEmpty(a);
    }
    expect(drops).to.deep.equal([]);
    expect(await headOf(redis)).to.equal(before + 3000);
  });

  it('of a Redis that hangs is one turn, and then what the queue takes', async () => {
    const { redis } = await started();
    const proxy = await TcpProxy.before(redis.port);
    const a = await node(proxy.port, { lease: 90_000, queue: { writes: 100, wait: 60_000 } });
    const drops = dropsOf(a);
    const news = a.push.channels.open('news');
    await a.push.health();
    proxy.stall(true);
    for (let round = 0; round < 20; round += 1) {
      for (const text of texts(1000)) news.write(text);
      await new Promise(setImmediate);
    }
    expect(a.push.inspect().backplane?.queued).to.be.within(1000, 1100);
    await until(() => drops.length > 0);
    proxy.stall(false);
    await isEmpty(a);
  });

  it('counts against the queue what a write holds, not its text alone', async () => {
    const { redis } = await started();
    const proxy = await TcpProxy.before(redis.port);
    const a = await node(proxy.port, { queue: { bytes: 2 ** 20, wait: 60_000 } });
    const news = a.push.channels.open('news');
    await a.push.health();
    const away = new Promise((resolve) => a.push.on('backplane', resolve));
    await proxy.refuse(true);
    proxy.cut();
    await away;
    for (let index = 0; index < 10_000; index += 1) news.write('x');
    expect(a.push.inspect().backplane?.queued).to.be.within(100, 1024);
  });
});
