import { expect } from 'chai';
import { createClient } from 'redis';
import { redis as redisBackplane } from '../lib/engines/redis/redis.js';
import { InvalidOptionError } from '../lib/index.js';
import { node, overhear, rawClient, texts, until, Watch } from './support/nodes.js';
import { delivered } from './support/outcomes.js';
import { RedisServer } from './support/redis.js';

const DATABASES = [0, 1];

describe('Two environments on one Redis, by database number', () => {
  it('share no channel, no event and no end, and count no listener of the other one', async () => {
    const redis = await RedisServer.start();
    const [production, staging] = await Promise.all(
      DATABASES.map((database) => node(redis.port, { database, node: `on-${database}` })),
    );
    const [ours, theirs] = [production!, staging!].map(({ push }) =>
      push.channels.create({ name: 'orders' }),
    );
    const ends: string[] = [];
    staging!.push.on('end', ({ channel }) => ends.push(channel));
    const client = await staging!.listen('orders');
    expect(await ours!.send('of production')).to.deep.equal(delivered(0));
    expect(await ours!.countListeners()).to.deep.include({ listeners: 0, silent: [] });

    ours!.end();
    await until(() => production!.push.channels.find('orders') === undefined);
    await production!.push.health();
    expect(await theirs!.send('of staging')).to.deep.equal(delivered(1));
    expect(await client.heard(1)).to.deep.equal(['of staging']);
    expect(ends).to.deep.equal([]);
    expect(staging!.push.channels.find('orders')).to.equal(theirs);
  });

  it('cost each other no script', async () => {
    const redis = await RedisServer.start();
    const [production, staging] = await Promise.all(
      DATABASES.map((database) => node(redis.port, { database, lease: 60_000 })),
    );
    const [ours, theirs] = [production!, staging!].map(({ push }) => push.channels.create({ name: 'live' }));
    await theirs!.send('known');
    await staging!.listen('live');
    await ours!.send('known');
    const watch = await Watch.on(redis);
    for (const text of texts(100)) await ours!.send(text);
    await theirs!.send('last');
    await watch.seen(/lua\] "PUBLISH" .*last/);
    expect(watch.matching(/\[1 [^l].*"EVALSHA"/i), 'of staging').to.have.length(1);
    expect(watch.matching(/\[0 [^l].*"EVALSHA"/i), 'of production').to.have.length(100);
  });
});

describe('An entry of another epoch', () => {
  it('is not taken, ends no channel, and is looked into once', async () => {
    const redis = await RedisServer.start();
    const raw = await rawClient(redis);
    const { push, listen } = await node(redis.port, { lease: 60_000 });
    const heard = push.channels.create({ name: 'heard' });
    const quiet = push.channels.create({ name: 'quiet' });
    await push.health();
    const client = await listen('heard');
    const { epoch } = push.inspect();
    const watch = await Watch.on(redis);
    for (let seq = 100; seq < 150; seq += 1) {
      await raw.publish('{express-comet}:0:topic:heard', `1 e other ${seq} ${seq - 1}\ndata: foreign\n\n`);
      for (const name of ['heard', 'quiet']) {
        await raw.publish('{express-comet}:0:all', `1 x other ${seq} ${seq - 1}\n${name}`);
      }
    }
    expect(await heard.send('ours')).to.deep.equal(delivered(1));
    expect(await client.heard(1)).to.deep.equal(['ours']);
    expect(client.events.map(({ event }) => event)).to.deep.equal(['comet:open', undefined]);
    expect(push.channels.find('quiet')).to.equal(quiet);
    expect(push.inspect().epoch).to.equal(epoch);
    await watch.seen(/lua\] "PUBLISH" .*ours/);
    expect(watch.matching(/\[0 [^l].*"EVALSHA"/i), 'the send and one look').to.have.length(2);
  });
});

describe('The prefix of Redis keys', () => {
  it('may have braces where the user puts them, so that an ACL of ~app:* fits', async () => {
    const redis = await RedisServer.start();
    const { push, listen } = await node(redis.port, { prefix: 'app:{comet}' });
    const heard = await overhear(redis, '*');
    const channel = push.channels.create({ name: 'a}b' });
    const client = await listen('a}b');
    expect(await channel.send('here')).to.deep.equal(delivered(1));
    expect(await client.heard(1)).to.deep.equal(['here']);
    const raw = await rawClient(redis);
    const keys = await raw.keys('*');
    expect(keys).to.include.members(['app:{comet}:hub', 'app:{comet}:log:a}b']);
    for (const name of [...keys, ...(await heard()).map(({ topic }) => topic)]) {
      expect(name).to.match(/^app:\{comet\}:/);
    }
  });

  it('is refused where its braces make no hash tag', () => {
    const refused = ['', 'a b', '{}', 'a{', '}a{', 'a}', '{a}{b}', '{{a}}', 'x'.repeat(65), 7];
    const client = createClient();
    for (const prefix of refused) {
      const make = () => redisBackplane({ client, prefix: prefix as string });
      expect(make, String(prefix)).to.throw(InvalidOptionError, /'app' or 'app:\{comet\}'/);
    }
    for (const prefix of ['a', '{a}', 'a:{b}:c']) redisBackplane({ client, prefix });
  });
});
