import { expect } from 'chai';
import { createClient } from 'redis';
import { redis as redisBackplane } from '../lib/engines/redis/redis.js';
import { type Comet, CometError, type CometEvents, comet } from '../lib/index.js';
import { healthy, node, rawClient, until } from './support/nodes.js';
import { TcpProxy } from './support/proxy.js';
import { RedisServer } from './support/redis.js';
import { cleanup } from './support/server.js';

/** A hub that has just been made, with the credentials of a user. */
function hubOn(port: number, credentials: string): Comet {
  const client = createClient({ url: `redis://${credentials}127.0.0.1:${port}` });
  const push = comet({ backplane: redisBackplane({ client, lease: 3000 }), deadline: 300 });
  cleanup(() => push.close({ drain: 1 }));
  return push;
}

/** What the process is warned of from now on, by this package. */
function warnings(): string[] {
  const heard: string[] = [];
  const hear = ({ name, message }: Error) => {
    if (name === 'CometWarning') heard.push(message);
  };
  process.on('warning', hear);
  cleanup(() => void process.off('warning', hear));
  return heard;
}

function heard<Name extends keyof CometEvents>(push: Comet, name: Name): CometEvents[Name][] {
  const events: CometEvents[Name][] = [];
  push.on(name, (event) => events.push(event));
  return events;
}

describe('A Redis that can not be used', () => {
  const causes: [name: string, args: string[], acl: string[], credentials: string, message: RegExp][] = [
    [
      'whose password is another',
      ['--requirepass', 'right'],
      [],
      ':wrong@',
      /WRONGPASS.*password of the client/,
    ],
    ['that requires a password', ['--requirepass', 'right'], [], '', /NOAUTH.*set .*password of the client/],
    [
      'whose user lacks rights',
      [],
      ['ACL', 'SETUSER', 'app', 'on', '>right', '~*', '&*', '+@all', '-xadd'],
      'app:right@',
      /lacks rights: add \+xadd/,
    ],
    ['that has no memory left', ['--maxmemory', '1'], [], '', /OOM.*maxmemory/],
  ];
  for (const [name, args, acl, credentials, message] of causes) {
    it(`and ${name} is one warning of the process, with the remedy`, async () => {
      const redis = await RedisServer.start({ args });
      if (acl.length > 0) await redis.command(...acl);
      const told = warnings();
      const push = hubOn(redis.port, credentials);
      push.channels.open('news').write('lost');
      await until(() => told.length > 0);
      expect(told[0]).to.match(message);
      // Several attempts later.
      for (let look = 0; look < 3; look += 1) expect((await push.health()).reason).to.match(message);
      expect(told).to.have.length(1);
    });
  }

  it('is a warning when its rights or its memory go while the hub runs', async () => {
    const redis = await RedisServer.start();
    await redis.command('ACL', 'SETUSER', 'app', 'on', '>right', '~*', '&*', '+@all');
    const told = warnings();
    const push = hubOn(redis.port, 'app:right@');
    await healthy(push);
    const news = push.channels.open('news');
    await push.health();
    await redis.command('ACL', 'SETUSER', 'app', '-xadd');
    const drops = heard(push, 'drop');
    news.write('refused');
    await until(() => told.length > 0 && drops.length > 0);
    expect(told.join()).to.match(/rights.*docs\/cluster\.md/);
    await redis.command('ACL', 'SETUSER', 'app', '+xadd');
    await healthy(push);
    told.length = 0;
    await redis.command('CONFIG', 'SET', 'maxmemory', '1');
    news.write('refused too');
    await until(() => told.length > 0 && drops.length > 1);
    expect(told.join()).to.match(/OOM.*maxmemory/);
    expect(drops.at(-1)?.cause.message).to.match(/OOM.*maxmemory/);
  });

  it('because nothing listens there is a warning after a while', async () => {
    const proxy = await TcpProxy.before(9);
    await proxy.refuse(true);
    const told = warnings();
    hubOn(proxy.port, '');
    await until(() => told.length > 0);
    expect(told[0]).to.match(/ECONNREFUSED.*look whether it runs/);
  });

  it('is no warning for a program that listens to `backplane`', async () => {
    const redis = await RedisServer.start({ args: ['--requirepass', 'right'] });
    const told = warnings();
    const push = hubOn(redis.port, ':wrong@');
    const events = heard(push, 'backplane');
    await until(() => events.length > 0);
    expect(events[0]?.cause?.message).to.match(/WRONGPASS.*password of the client/);
    expect(told).to.deep.equal([]);
  });
});

describe('on("drop")', () => {
  it('tells what is dropped in a turn as one, with a count, and what follows once a second', async () => {
    const redis = await RedisServer.start();
    const proxy = await TcpProxy.before(redis.port);
    const { push } = await node(proxy.port, { queue: { writes: 10, wait: 60_000 } });
    const [news, other] = ['news', 'other'].map((name) => push.channels.open(name));
    await push.health();
    const drops = heard(push, 'drop');
    const away = new Promise((resolve) => push.on('backplane', resolve));
    await proxy.refuse(true);
    proxy.cut();
    await away;
    for (let index = 0; index < 11_000; index += 1) news!.write(index, { event: 'tick' });
    other!.write('one more');
    await until(() => drops.length === 2);
    expect(drops.map(({ cause: _, ...drop }) => drop)).to.deep.equal([
      { channel: 'news', event: 'tick', happened: 'never', count: 10_990 },
      { channel: 'other', event: 'message', happened: 'never', count: 1 },
    ]);
    for (const { cause } of drops)
      expect(cause).to.be.an.instanceof(CometError).with.property('code', 'BACKPLANE');
    const began = performance.now();
    while (performance.now() - began < 500) {
      news!.write('again', { event: 'tick' });
      await new Promise(setImmediate);
    }
    expect(drops.length).to.equal(2);
    await until(() => drops.length === 3);
    expect(drops[2]?.count).to.be.above(1);
    // What is yet to be told when the hub closes is told then.
    news!.write('last', { event: 'tick' });
    await push.close({ drain: 10 });
    const counts = drops
      .filter(({ cause }) => cause.code === 'BACKPLANE')
      .slice(3)
      .map(({ count }) => count);
    expect(counts).to.deep.equal([1]);
  });
});

describe('on("backplane")', () => {
  it('says that history was lost where it was, so that latest values can be written again', async () => {
    const redis = await RedisServer.start();
    const { push } = await node(redis.port, { lease: 1500 });
    const prices = push.channels.open('prices', { rewind: 1 });
    await prices.send(1);
    const events = heard(push, 'backplane');
    push.on('backplane', ({ historyLost }) => {
      if (historyLost) prices.write(2);
    });
    await redis.cutConnections();
    await until(() => events.length === 2);
    await healthy(push);
    expect(events.map((event) => [event.healthy, event.historyLost])).to.deep.equal([
      [false, false],
      [true, false],
    ]);

    await redis.command('FLUSHALL');
    await until(() => events.some(({ historyLost }) => historyLost));
    const raw = await rawClient(redis);
    await until(async () => (await raw.xLen('{express-comet}:log:prices')) === 1);
    await redis.restart();
    await until(() => events.filter(({ historyLost }) => historyLost).length === 2);
    expect(events.filter(({ historyLost }) => historyLost).every((event) => event.healthy)).to.equal(true);
  });

  it('says so on a node too that had nothing to do, and found it out from another', async () => {
    const redis = await RedisServer.start();
    const [a, b] = [
      await node(redis.port, { node: 'a' }),
      await node(redis.port, { node: 'b', lease: 1500 }),
    ];
    const lost = [a, b].map(({ push }) => heard(push, 'backplane'));
    await redis.command('FLUSHALL');
    await a.push.channels.open('news').send('new epoch');
    await until(() => lost.every((events) => events.filter(({ historyLost }) => historyLost).length === 1));
    await Promise.all([healthy(a.push), healthy(b.push)]);
    expect(a.push.inspect().epoch).to.equal(b.push.inspect().epoch);
  });
});
