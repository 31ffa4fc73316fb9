import { expect } from 'chai';
import { createClient } from 'redis';
import { redis as redisBackplane } from '../lib/engines/redis/redis.js';
import type { Comet, Outcome } from '../lib/index.js';
import { healthy, listen, texts } from './support/nodes.js';
import { RedisServer } from './support/redis.js';
import { hub } from './support/server.js';

/** Two nodes of a user who has all rights. */
async function twoNodes(redis: RedisServer) {
  await redis.command('ACL', 'SETUSER', 'comet', 'on', '>secret', '~*', '&*', '+@all');
  const url = redis.url.replace('//', '//comet:secret@');
  const make = async () => {
    const client = createClient({ url });
    const made = await hub({
      ...{ deadline: 1000, log: { frames: 8 }, rewind: 1000, queue: { wait: 60_000 } },
      backplane: redisBackplane({ client, lease: 90_000 }),
    });
    await healthy(made.push);
    return made;
  };
  return [await make(), await make()] as const;
}

/** Resolves when the node has noticed that Redis is away, with the cause. */
const noticed = (push: Comet) =>
  new Promise<string>((resolve) => {
    push.on('backplane', ({ healthy, cause }) => {
      if (!healthy) resolve(String(cause?.message));
    });
  });

const entriesOf = async (redis: RedisServer) =>
  JSON.stringify(await redis.command('XRANGE', '{express-comet}:log:news', '-', '+'));

describe('A write that Redis refuses in the middle', () => {
  // What is refused before the entry stands: none of it may be seen.
  for (const right of ['xtrim', 'xrange', 'hincrby', 'zadd', 'xadd', 'hset']) {
    it(`for the lack of +${right} has not happened: it waits, and arrives once when the right is there`, async () => {
      const redis = await RedisServer.start();
      const [a, b] = await twoNodes(redis);
      const news = a.push.channels.create({ name: 'news' });
      await healthy(a.push);
      const client = await listen(b.server.url, 'news');
      await Promise.all(texts(9).map((text) => news.send(text)));
      const drops: unknown[] = [];
      a.push.on('drop', (drop) => drops.push(drop));

      const away = noticed(a.push);
      await redis.command('ACL', 'SETUSER', 'comet', `-${right}`);
      const outcome = news.send('write 9');
      expect(await away).to.match(/^Redis refuses what the ACL of its user does not allow/);
      expect(await entriesOf(redis)).to.not.include('write 9');
      expect((await a.push.health()).reason).to.include(`add +${right} to its ACL`);
      await redis.command('ACL', 'SETUSER', 'comet', `+${right}`);
      expect(await outcome).to.include({ status: 'success', delivered: 1 });
      expect(await news.send('write 10')).to.include({ status: 'success', delivered: 1 });
      expect(await client.heard(11)).to.deep.equal(texts(11));
      expect(drops).to.deep.equal([]);
    });
  }

  it('after its entry stands is never told as never, and arrives once', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await twoNodes(redis);
    const news = a.push.channels.create({ name: 'news' });
    await healthy(a.push);
    const client = await listen(b.server.url, 'news');
    await news.send('write 0');
    const away = noticed(a.push);
    // The last command of the script.
    await redis.command('ACL', 'SETUSER', 'comet', '-publish');
    const outcomes: Promise<Outcome>[] = texts(5, 1).map((text) => news.send(text));
    expect(await away).to.match(/^Redis refuses what the ACL of its user does not allow/);
    expect((await a.push.health()).reason).to.include('add +publish to its ACL');
    expect(await entriesOf(redis)).to.include('write 1');
    await redis.command('ACL', 'SETUSER', 'comet', '+publish');
    for (const outcome of await Promise.all(outcomes)) {
      expect(outcome.reasons).to.deep.equal({});
      expect(outcome.delivered + outcome.unknown).to.equal(1);
    }
    expect(await news.send('write 6')).to.include({ status: 'success', delivered: 1 });
    expect(await client.heard(7)).to.deep.equal(texts(7));
  });
});
