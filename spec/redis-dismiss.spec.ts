import { expect } from 'chai';
import { node, type TestNode } from './support/nodes.js';
import { delivered } from './support/outcomes.js';
import { TcpProxy } from './support/proxy.js';
import { RedisServer } from './support/redis.js';

/** Resolves when the node has noticed that Redis is away. */
const noticed = ({ push }: TestNode) =>
  new Promise<void>((resolve) => {
    push.on('backplane', ({ healthy }) => {
      if (!healthy) resolve();
    });
  });

const listenerOf = ({ push }: TestNode): string => push.inspect({ streams: true }).streams![0]!.id;

describe('A dismissal over Redis', () => {
  const ways: [name: string, end: (node: TestNode) => void][] = [
    ['dismiss(id)', (node) => node.push.dismiss(listenerOf(node))],
    ['setTimeout(ms, { reset: true })', (node) => node.push.setTimeout(60_000, { reset: true })],
  ];
  for (const [name, end] of ways) {
    it(`lets the listener have what was written before ${name}, and the outcome counts it`, async () => {
      const redis = await RedisServer.start();
      const a = await node(redis.port);
      const news = a.push.channels.open('news');
      await a.push.health();
      const client = await a.listen('news');
      const outcomes = ['one', 'two', 'you are logged out'].map((data) => news.send(data));
      end(a);
      for (const outcome of await Promise.all(outcomes)) expect(outcome).to.deep.equal(delivered(1));
      await client.ended();
      expect(client.messages).to.deep.equal(['one', 'two', 'you are logged out']);
    });
  }

  it('is not put off by writes that follow, however many they are', async () => {
    const redis = await RedisServer.start();
    const a = await node(redis.port);
    const news = a.push.channels.open('news');
    await a.push.health();
    const client = await a.listen('news');
    const outcome = news.send('before');
    let writing: NodeJS.Immediate | undefined;
    const write = () => {
      news.write('and on');
      writing = setImmediate(write);
    };
    write();
    a.push.dismiss(listenerOf(a));
    await client.ended();
    clearImmediate(writing);
    expect(await outcome).to.deep.equal(delivered(1));
    expect(client.messages[0]).to.equal('before');
  });

  it('does not wait for a Redis that is away, or that goes away meanwhile', async () => {
    const redis = await RedisServer.start();
    const proxy = await TcpProxy.before(redis.port);
    const a = await node(proxy.port, { queue: { wait: 60_000 } });
    const news = a.push.channels.open('news');
    await a.push.health();
    const first = await a.listen('news');
    proxy.stall(true);
    news.write('on its way');
    a.push.dismiss(listenerOf(a));
    const away = noticed(a);
    await proxy.refuse(true);
    proxy.stall(false);
    proxy.cut();
    await Promise.all([away, first.ended()]);
    expect(a.push.inspect().backplane?.queued).to.equal(1);

    await proxy.refuse(false);
    await news.send('there again');
    const second = await a.listen('news');
    const again = noticed(a);
    await proxy.refuse(true);
    proxy.cut();
    await again;
    news.write('waits');
    a.push.dismiss(listenerOf(a));
    await second.ended();
    expect(a.push.inspect().backplane?.queued).to.equal(1);
  });

  it('waits a second at most for a Redis that hangs', async () => {
    const redis = await RedisServer.start();
    const proxy = await TcpProxy.before(redis.port);
    const a = await node(proxy.port, { lease: 60_000 });
    const news = a.push.channels.open('news');
    await a.push.health();
    const client = await a.listen('news');
    proxy.stall(true);
    news.write('on its way');
    a.push.dismiss(listenerOf(a));
    await client.ended();
    expect(a.push.inspect().backplane).to.include({ healthy: true, queued: 1 });
    proxy.stall(false);
  });
});
