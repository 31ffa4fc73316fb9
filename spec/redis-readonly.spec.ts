import { expect } from 'chai';
import type { Outcome } from '../lib/index.js';
import { healthy, node, type TestNode, texts, until } from './support/nodes.js';
import { TcpProxy } from './support/proxy.js';
import { RedisServer } from './support/redis.js';

const scriptsOf = async (redis: RedisServer): Promise<number> => {
  const stats = String(await redis.command('INFO', 'commandstats'));
  return Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1] ?? 0);
};

/** Resolves when the node has noticed that Redis is away, with the cause. */
const noticed = ({ push }: TestNode) =>
  new Promise<Error | undefined>((resolve) => {
    push.on('backplane', ({ healthy, cause }) => {
      if (!healthy) resolve(cause);
    });
  });

describe('A Redis that refuses, and keeps the connections', () => {
  it('as it was demoted: it is left at once, and every write arrives once at the new primary', async () => {
    const old = await RedisServer.start();
    const replica = await RedisServer.startReplica(old);
    const proxy = await TcpProxy.before(old.port);
    // What is noticed is noticed by the refusal, long before a third of the lease.
    const a = await node(proxy.port, { lease: 90_000, queue: { wait: 60_000 } });
    const news = a.push.channels.create({ name: 'news', rewind: 1000 });
    await news.send('before');
    await old.command('WAIT', '1', '0');
    await old.command('CONFIG', 'RESETSTAT');

    const away = noticed(a);
    await replica.promote();
    await old.command('REPLICAOF', '127.0.0.1', String(replica.port));
    const outcomes: Promise<Outcome>[] = texts(100).map((text) => news.send(text));
    expect((await away)?.message).to.include('READONLY');
    outcomes.push(...texts(100, 100).map((text) => news.send(text)));
    expect(a.push.inspect().backplane?.queued).to.equal(200);
    proxy.target = replica.port;
    for (const outcome of await Promise.all(outcomes)) {
      expect(outcome).to.include({ failed: 0, unknown: 0 });
    }
    // A script for each write that was under way, and one for each attempt to connect.
    expect(await scriptsOf(old)).to.be.below(150);
    const late = await a.listen('news');
    const heard = await late.heard(201);
    expect(heard.slice(-200)).to.deep.equal(texts(200));
  });

  it('for long is asked with pauses that grow', async () => {
    const redis = await RedisServer.start();
    const a = await node(redis.port, { lease: 90_000, queue: { wait: 60_000 } });
    const news = a.push.channels.create({ name: 'news' });
    await news.send('before');
    await redis.command('CONFIG', 'RESETSTAT');
    // Writes are refused while too few replicas are there.
    await redis.command('CONFIG', 'SET', 'min-replicas-to-write', '1');
    const began = performance.now();
    const away = noticed(a);
    const outcomes = texts(50).map((text) => news.send(text));
    expect((await away)?.message).to.include('NOREPLICAS');
    const attempts: number[] = [];
    for (let each = 0; each < 5; each += 1) {
      const before = await scriptsOf(redis);
      await until(async () => (await scriptsOf(redis)) > before);
      attempts.push(performance.now() - began);
    }
    const pauses = attempts.slice(1).map((at, index) => at - attempts[index]!);
    expect(Math.max(...pauses)).to.be.above(200);
    expect(await scriptsOf(redis)).to.be.below(80);
    await redis.command('CONFIG', 'SET', 'min-replicas-to-write', '0');
    for (const outcome of await Promise.all(outcomes)) expect(outcome).to.include({ failed: 0, unknown: 0 });
    await healthy(a.push);
  });

  it('a write of an epoch that is over has not applied it: it is written in the next one', async () => {
    const redis = await RedisServer.start();
    const a = await node(redis.port, { queue: { wait: 60_000 } });
    const news = a.push.channels.create({ name: 'news', rewind: 1000 });
    await news.send('before');
    await redis.command('FLUSHALL');
    const outcomes = texts(100).map((text) => news.send(text));
    for (const outcome of await Promise.all(outcomes)) expect(outcome).to.include({ failed: 0, unknown: 0 });
    const late = await a.listen('news');
    expect(await late.heard(100)).to.deep.equal(texts(100));
  });
});
