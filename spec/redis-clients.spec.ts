import { expect } from 'chai';
import { Cluster, Redis } from 'ioredis';
import { createClient, createClientPool, createCluster, createSentinel } from 'redis';
import { type RedisOptions, redis as redisBackplane } from '../lib/engines/redis/redis.js';
import { type Channel, InvalidOptionError } from '../lib/index.js';
import { healthy, listen, rawClient, texts, until } from './support/nodes.js';
import { delivered } from './support/outcomes.js';
import { RedisServer } from './support/redis.js';
import { documentedUser } from './support/rights.js';
import { cleanup, hub } from './support/server.js';

type Client = RedisOptions['client'];

interface Kind {
  readonly name: string;
  readonly cluster?: boolean;
  /** A client of this kind; `server` holds the data. */
  client(server: RedisServer, database?: number): Client | Promise<Client>;
}

const sentinelOf = async (server: RedisServer) => {
  const { port } = await RedisServer.start({ sentinelOf: server });
  return { host: '127.0.0.1', port };
};

/** A client of ioredis connects when it is made, unless it is told not to. */
const lazily = { lazyConnect: true };

const KINDS: readonly Kind[] = [
  { name: 'createClient()', client: ({ url }, database = 0) => createClient({ url, database }) },
  {
    name: 'createCluster()',
    cluster: true,
    client: ({ url }) => createCluster({ rootNodes: [{ url }] }),
  },
  {
    name: 'createCluster({ minimizeConnections: true })',
    cluster: true,
    client: ({ url }) => createCluster({ rootNodes: [{ url }], minimizeConnections: true }),
  },
  {
    name: 'createSentinel()',
    client: async (server, database = 0) => {
      const sentinelRootNodes = [await sentinelOf(server)];
      return createSentinel({ name: 'main', sentinelRootNodes, nodeClientOptions: { database } });
    },
  },
  { name: 'new Redis() of ioredis', client: ({ url }, db = 0) => new Redis(url, { db, ...lazily }) },
  {
    name: 'new Redis({ sentinels }) of ioredis',
    client: async (server, db = 0) =>
      new Redis({ sentinels: [await sentinelOf(server)], name: 'main', db, ...lazily }),
  },
];

async function node(client: Client, name = 'a', lease = 6000) {
  const made = await hub({
    node: name,
    deadline: 5000,
    backplane: redisBackplane({ client, lease }),
  });
  await healthy(made.push);
  return { ...made, listen: (channel: string, cursor?: string) => listen(made.server.url, channel, cursor) };
}

/** How many environments have topics here: each has one of all its nodes. */
async function environments(server: RedisServer): Promise<number> {
  const topics = (await server.command('PUBSUB', 'CHANNELS')) as string[];
  return topics.filter((topic) => topic.endsWith(':all')).length;
}

/** Connections that Redis holds of anybody but the one who asks, replicas and Sentinels left out. */
async function connections(raw: { sendCommand(words: string[]): Promise<unknown> }) {
  const lines = String(await raw.sendCommand(['CLIENT', 'LIST']))
    .trim()
    .split('\n');
  return lines.filter((line) => !/ name=sentinel-| cmd=client\|list/.test(line)).length;
}

describe('A client of Redis', () => {
  for (const { name, cluster = false, client: make } of KINDS) {
    describe(name, () => {
      it('carries writes, outcomes and returns, also when connections break, and leaves no connection', async () => {
        const server = await RedisServer.start({ cluster });
        const client = await make(server);
        // A node that is not told that a connection broke would find out after a third of the lease.
        const [a, b] = [await node(client, 'a', 60_000), await node(client, 'b', 60_000)];
        const news = a.push.channels.create({ name: 'news' });
        await a.push.health();
        const streams = [await a.listen('news'), await b.listen('news')];
        for (const text of texts(10)) expect(await news.send(text)).to.deep.equal(delivered(2));
        for (let round = 1; round < 4; round += 1) {
          for (const text of texts(10, round * 10)) news.write(text);
          await server.cutConnections(round % 2 === 0 ? 'normal' : 'pubsub');
          await healthy(b.push);
          await healthy(a.push);
        }
        for (const stream of streams) expect(await stream.heard(40)).to.deep.equal(texts(40));
        const back = await b.listen('news', streams[0]!.events[11]!.id);
        expect(back.opening.recovered).to.equal(true);
        expect(await back.heard(29)).to.deep.equal(texts(29, 11));

        const raw = await rawClient(server);
        await Promise.all([a, b].map(({ push }) => push.close()));
        await until(async () => (await connections(raw)) === 0);
      });

      it('loses and doubles nothing of what was under way when the connection for commands broke', async () => {
        const server = await RedisServer.start({ cluster });
        const { push, listen: open } = await node(await make(server), 'a', 60_000);
        const news = push.channels.create({ name: 'news', log: { frames: 10_000 } });
        await push.health();
        const stream = await open('news');
        const outcomes = texts(3000).map((text) => news.send(text));
        await stream.heard(1);
        await server.cutConnections('normal');
        for (const outcome of await Promise.all(outcomes)) expect(outcome.failed).to.equal(0);
        expect(await stream.heard(3000)).to.deep.equal(texts(3000));
      });

      if (cluster) return;

      it('keeps to the number of its database, with its topics too', async () => {
        const server = await RedisServer.start();
        const [here, there] = [await node(await make(server, 1)), await node(await make(server, 2))];
        const [ours, theirs] = [here, there].map(({ push }) => push.channels.create({ name: 'orders' }));
        const stream = await there.listen('orders');
        expect(await environments(server)).to.equal(2);
        expect(await ours!.send('ours')).to.deep.equal(delivered(0));
        ours!.end();
        await here.push.health();
        expect(await theirs!.send('theirs')).to.deep.equal(delivered(1));
        expect(await stream.heard(1)).to.deep.equal(['theirs']);
      });
    });
  }

  for (const { name, client: make } of KINDS.filter(({ name }) => name.includes('entinel'))) {
    it(`by ${name} follows a failover: a new epoch, of which streams are told, and what waited arrives once`, async () => {
      const primary = await RedisServer.start();
      await RedisServer.startReplica(primary);
      const { push, listen: open } = await node(await make(primary));
      const news = push.channels.create({ name: 'news' });
      await push.health();
      const stream = await open('news');
      expect(await news.send('before')).to.deep.equal(delivered(1));
      const { epoch } = push.inspect();
      const away = new Promise((resolve) => push.on('backplane', resolve));
      await primary.kill();
      await away;
      for (const text of texts(10)) news.write(text);
      await healthy(push);
      expect(push.inspect().epoch).to.not.equal(epoch);
      expect(await stream.heard(11)).to.deep.equal(['before', ...texts(10)]);
      expect(stream.events.some(({ event }) => event === 'comet:gap')).to.equal(true);
    });
  }

  it('of Sentinels needs the rights that the documentation lists, and client|info', async () => {
    const server = await RedisServer.start();
    await server.command(...(await documentedUser()), '+client|info');
    const client = createSentinel({
      name: 'main',
      sentinelRootNodes: [await sentinelOf(server)],
      nodeClientOptions: { username: 'comet', password: 'secret', database: 3 },
    });
    const { push, listen: open } = await node(client);
    const news = push.channels.create({ name: 'news' });
    await open('news');
    expect(await news.send('allowed')).to.deep.equal(delivered(1));
  });

  it('with a limit of commands of its own is as good: all writes of a turn are delivered', async () => {
    const limit = { commandsQueueMaxLength: 100 };
    const alone = await RedisServer.start();
    const slots = await RedisServer.start({ cluster: true });
    const clients = [
      createClient({ url: alone.url, ...limit }),
      createCluster({ rootNodes: [{ url: slots.url }], defaults: limit }),
    ];
    for (const client of clients) {
      const { push, listen: open } = await node(client);
      const news = push.channels.create({ name: 'news' });
      await push.health();
      const stream = await open('news');
      const outcomes = await Promise.all(texts(300).map((text) => news.send(text)));
      for (const outcome of outcomes) expect(outcome).to.deep.equal(delivered(1));
      expect(await stream.heard(300)).to.deep.equal(texts(300));
    }
  });

  it('with a prefix of keys of its own shares no topic with one that has another', async () => {
    const server = await RedisServer.start();
    const slots = await RedisServer.start({ cluster: true });
    const kinds: [on: RedisServer, client: (keyPrefix: string) => Client][] = [
      [server, (keyPrefix) => createClient({ url: server.url, keyPrefix })],
      [slots, (keyPrefix) => createCluster({ rootNodes: [{ url: slots.url }], keyPrefix })],
      [server, (keyPrefix) => new Redis(server.url, { keyPrefix, ...lazily })],
    ];
    for (const [index, [on, kind]] of kinds.entries()) {
      const before = await environments(on);
      const pair = [await node(kind(`one-${index}:`)), await node(kind(`two-${index}:`))];
      const [ours, theirs] = pair.map(({ push }) => push.channels.create({ name: 'orders' })) as [
        Channel,
        Channel,
      ];
      expect((await environments(on)) - before).to.equal(2);
      const stream = await pair[1]!.listen('orders');
      expect(await ours.send('ours')).to.deep.equal(delivered(0));
      ours.end();
      await pair[0]!.push.health();
      expect(await theirs.send('theirs')).to.deep.equal(delivered(1));
      expect(await stream.heard(1)).to.deep.equal(['theirs']);
    }
  });

  it('that can not be used is refused at once, with an error that says which ones can', () => {
    const url = 'redis://127.0.0.1:1';
    const cluster = new Cluster([{ host: '127.0.0.1', port: 1 }], { ...lazily });
    cleanup(() => cluster.disconnect());
    const { destroy: _, ...earlier } = Object.fromEntries(
      ['duplicate', 'connect', 'destroy', 'on', 'eval', 'evalSha', 'publish', 'subscribe', 'unsubscribe'].map(
        (name) => [name, () => {}],
      ),
    );
    const bad: [client: unknown, why: RegExp][] = [
      [undefined, /lacks duplicate\(\), connect\(\)/],
      [null, /lacks duplicate\(\)/],
      [url, /lacks duplicate\(\)/],
      [createClient, /lacks duplicate\(\)/],
      [{ duplicate: () => createClient() }, /lacks connect\(\)/],
      [createClient({ url }).legacy(), /lacks duplicate\(\)/],
      [createClientPool({ url }), /lacks duplicate\(\)/],
      [earlier, /lacks destroy\(\)/],
      [cluster, /is a cluster of ioredis/],
    ];
    for (const [client, why] of bad) {
      const make = () => redisBackplane({ client: client as Client });
      expect(make).to.throw(InvalidOptionError, why);
      expect(make).to.throw(
        /pass createClient\(\), createCluster\(\) or createSentinel\(\).* new Redis\(\) of ioredis 5/,
      );
    }
  });
});
