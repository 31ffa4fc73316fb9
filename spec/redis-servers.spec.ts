import { expect } from 'chai';
import { Redis } from 'ioredis';
import { createClient } from 'redis';
import { redis as redisBackplane } from '../lib/engines/redis/redis.js';
import { backplaneSuite } from '../lib/testing/engine-suite.js';
import { findServers } from '../scripts/redis.mjs';
import { healthy, listen, texts } from './support/nodes.js';
import { delivered } from './support/outcomes.js';
import { RedisServer } from './support/redis.js';
import { documentedUser } from './support/rights.js';
import { hub } from './support/server.js';

// The reporter tells which servers ran, by the titles "On …".
const { here, lacking } = findServers();

for (const [index, [version, program]] of [...here].entries()) {
  describe(`On ${version}`, () => {
    it('two nodes with both packages deliver, replay and survive a restart, with the documented rights alone', async () => {
      const server = await RedisServer.start({ program });
      const user = await documentedUser();
      await server.command(...user);
      const url = server.url.replace('//', '//comet:secret@');
      const clients = [createClient({ url, database: 1 }), new Redis(url, { db: 1, lazyConnect: true })];
      const made = await Promise.all(
        clients.map((client) => hub({ deadline: 5000, backplane: redisBackplane({ client, lease: 6000 }) })),
      );
      const [a, b] = made as [(typeof made)[0], (typeof made)[0]];
      await Promise.all(made.map(({ push }) => healthy(push)));
      const news = a.push.channels.create({ name: 'news' });
      await a.push.health();
      const streams = [await listen(a.server.url, 'news'), await listen(b.server.url, 'news')];
      for (const text of texts(5)) expect(await news.send(text)).to.deep.equal(delivered(2));
      await server.cutConnections();
      for (const text of texts(5, 5)) news.write(text);
      for (const stream of streams) expect(await stream.heard(10)).to.deep.equal(texts(10));
      const back = await listen(b.server.url, 'news', streams[0]!.events[3]!.id);
      expect(await back.heard(7)).to.deep.equal(texts(7, 3));

      await server.restart();
      await server.command(...user);
      await Promise.all(made.map(({ push }) => healthy(push)));
      for (const stream of streams)
        await stream.until(() => stream.events.some(({ event }) => event === 'comet:gap'));
      expect(await news.send('after the restart')).to.deep.equal(delivered(3));
    });

    it('a right that is missing is named', async () => {
      const server = await RedisServer.start({ program });
      await server.command(...(await documentedUser()), '-xtrim');
      const url = server.url.replace('//', '//comet:secret@');
      const { push } = await hub({
        deadline: 300,
        backplane: redisBackplane({ client: createClient({ url }) }),
      });
      expect((await push.health()).reason).to.match(/add \+xtrim to its ACL/);
    });

    // That of the first one is in backplane.spec.ts.
    if (index === 0) return;
    const make = async () => {
      const server = await RedisServer.start({ program });
      const client = createClient({ url: server.url });
      return {
        backplane: (times: object) => redisBackplane({ client, ...times }),
        close: () => server.kill(),
      };
    };
    for (const { title, run } of backplaneSuite(make)) it(title, run);
  });
}

// Pending, and so told as skipped.
for (const name of lacking) it(`On ${name}, which is not here`);
