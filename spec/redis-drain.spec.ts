import { expect } from 'chai';
import { createClient } from 'redis';
import { redis as redisBackplane } from '../lib/engines/redis/redis.js';
import { type Comet, comet, Deferred } from '../lib/index.js';
import { node, nodes, type TestNode, until } from './support/nodes.js';
import { TcpProxy } from './support/proxy.js';
import { RedisServer } from './support/redis.js';

/** Writes that a node has given up. */
function dropsOf(push: Comet): unknown[] {
  const drops: unknown[] = [];
  push.on('drop', (drop) => drops.push(drop));
  return drops;
}

/** The hub of a process that has just started: nothing was awaited since. */
const freshHub = (port: number): Comet =>
  comet({ backplane: redisBackplane({ client: createClient({ url: `redis://127.0.0.1:${port}` }) }) });

/** Resolves when the node has noticed that Redis is away. */
const noticed = ({ push }: TestNode) =>
  new Promise<void>((resolve) => {
    push.on('backplane', ({ healthy }) => {
      if (!healthy) resolve();
    });
  });

describe('close({ drain }) over Redis', () => {
  it('delivers what a process wrote that closes before its first connection is there', async () => {
    const redis = await RedisServer.start();
    const web = await node(redis.port, { node: 'web' });
    web.push.channels.open('news');
    await web.push.health();
    const client = await web.listen('news');
    const job = freshHub(redis.port);
    const drops = dropsOf(job);
    const news = job.channels.open('news');
    news.write('done');
    news.write('and over');
    const began = performance.now();
    await job.close({ drain: 15_000 });
    expect(performance.now() - began, 'no longer than it takes').to.be.below(10_000);
    expect(await client.heard(2)).to.deep.equal(['done', 'and over']);
    expect(drops).to.deep.equal([]);
  });

  it('delivers the end of a channel as well', async () => {
    const redis = await RedisServer.start();
    const web = await node(redis.port, { node: 'web' });
    web.push.channels.open('news');
    await web.push.health();
    const client = await web.listen('news');
    const job = freshHub(redis.port);
    job.channels.open('news').end();
    await job.close({ drain: 15_000 });
    await client.ended();
    expect(client.events.at(-1)?.event).to.equal('comet:end');
  });

  it('waits for a Redis that comes back within that time, and ends its streams before', async () => {
    const redis = await RedisServer.start();
    const proxy = await TcpProxy.before(redis.port);
    const [web] = await nodes(redis.port, ['web']);
    const job = await node(proxy.port, { node: 'job', queue: { wait: 60_000 } });
    web!.push.channels.open('news');
    await web!.push.health();
    const client = await web!.listen('news');
    const own = await job.listen('news');
    const drops = dropsOf(job.push);
    const away = noticed(job);
    await proxy.refuse(true);
    proxy.cut();
    await away;
    job.push.channels.open('news').write('late');
    const closed = job.push.close({ drain: 15_000 });
    await own.ended();
    await proxy.refuse(false);
    await closed;
    expect(await client.heard(1)).to.deep.equal(['late']);
    expect(drops).to.deep.equal([]);
  });

  it('does not wait where there is nothing to deliver', async () => {
    const redis = await RedisServer.start();
    const proxy = await TcpProxy.before(redis.port);
    await proxy.refuse(true);
    const job = freshHub(proxy.port);
    job.channels.open('news');
    const began = performance.now();
    await job.close({ drain: 15_000 });
    expect(performance.now() - began).to.be.below(10_000);
    await until(() => proxy.connections === 0);
  });

  it('refuses a client that comes for a channel of another node while the hub closes', async () => {
    const redis = await RedisServer.start();
    const web = await node(redis.port, { node: 'web' });
    web.push.channels.open('news');
    await web.push.health();
    const proxy = await TcpProxy.before(redis.port);
    const arrived = new Deferred<void>();
    const authorize = () => {
      arrived.resolve();
      return true;
    };
    const leaving = await node(proxy.port, { node: 'leaving', authorize });
    const errors: unknown[] = [];
    leaving.push.on('error', (error) => errors.push(error));
    proxy.stall(true);
    const answer = fetch(`${leaving.server.url}/news`);
    await arrived.promise;
    const closed = leaving.push.close({ drain: 5000 });
    proxy.stall(false);
    expect((await answer).status).to.equal(503);
    await closed;
    expect(errors).to.deep.equal([]);
  });
});
