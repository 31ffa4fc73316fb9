import { expect } from 'chai';
import { createCluster } from 'redis';
import { redis as redisBackplane } from '../lib/engines/redis/redis.js';
import { healthy, listen, rawClient, texts, until } from './support/nodes.js';
import { RedisServer } from './support/redis.js';
import { hub } from './support/server.js';

describe('Redis as a cluster', () => {
  it('carries writes, replay and outcomes, all in one slot, and loses nothing when connections break', async () => {
    const redis = await RedisServer.start({ cluster: true });
    const client = createCluster({ rootNodes: [{ url: redis.url }] });
    const make = async (node: string) => {
      const made = await hub({ node, deadline: 5000, backplane: redisBackplane({ client, lease: 6000 }) });
      await healthy(made.push);
      return made;
    };
    const [a, b] = await Promise.all([make('a'), make('b')]);
    const names = ['news', '}{x}', '{other}:y'];
    const channels = names.map((name) => a.push.channels.create({ name }));
    const [news] = channels;
    await a.push.health();
    const clients = await Promise.all([listen(a.server.url, names), listen(b.server.url, names)]);
    for (const [index, text] of texts(30).entries()) {
      const outcome = await channels[index % 3]!.send(text);
      expect(outcome).to.include({ status: 'success', listeners: 2, delivered: 2 });
    }
    for (const each of clients) expect(await each.heard(30)).to.deep.equal(texts(30));
    const { listeners, silent } = await news!.countListeners();
    expect([listeners, silent]).to.deep.equal([2, []]);

    const raw = await rawClient(redis);
    const keys = await raw.keys('*');
    const slots = await Promise.all(keys.map((key) => raw.clusterKeySlot(key)));
    expect(keys.length).to.be.at.least(10);
    expect(new Set(slots).size, `of ${keys}`).to.equal(1);

    const back = await listen(b.server.url, names, clients[0]!.events[11]!.id);
    expect(back.opening.recovered).to.equal(true);
    expect(await back.heard(19)).to.deep.equal(texts(19, 11));

    for (let round = 0; round < 3; round += 1) {
      for (const text of texts(20, 30 + round * 20)) news!.write(text);
      await redis.cutConnections();
      for (const text of texts(10, 30 + round * 20)) channels[1]!.write(text);
      await healthy(b.push);
    }
    for (const each of clients) {
      const heard = await each.heard(30 + 90);
      const ofNews = each.events.filter(({ id }) => id?.endsWith('@news')).slice(10);
      expect(heard).to.have.length(120);
      expect(ofNews.map(({ data }) => data)).to.deep.equal(texts(60, 30));
    }
    news!.end();
    await clients[1]!.until(() => clients[1]!.events.some(({ event }) => event === 'comet:end'));
    await until(() => b.push.channels.find('news') === undefined);
  });
});
