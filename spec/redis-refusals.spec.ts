import { readFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { expect } from 'chai';
import { Redis } from 'ioredis';
import { createClient } from 'redis';
import { type RedisOptions, redis as redisBackplane } from '../lib/engines/redis/redis.js';
import { SCRIPT } from '../lib/engines/redis/redis-script.js';
import type { Comet } from '../lib/index.js';
import { healthy, rawClient, until } from './support/nodes.js';
import { RedisServer } from './support/redis.js';
import { documentedUser } from './support/rights.js';
import { hub, TestServer } from './support/server.js';

/** What the event `backplane` says first of a hub with this client. */
async function refusal(client: RedisOptions['client']): Promise<{ push: Comet; message: string }> {
  const { push } = await hub({ deadline: 400, backplane: redisBackplane({ client, lease: 6000 }) });
  const message = await new Promise<string>((resolve) => {
    push.on('backplane', ({ healthy, cause }) => resolve(healthy ? 'healthy' : String(cause?.message)));
  });
  return { push, message };
}

describe('A Redis that a hub can not use', () => {
  it('since a right is missing is told with that right, whichever it is, and used once the user has it', async () => {
    const server = await RedisServer.start();
    const words = await documentedUser();
    await server.command(...words);
    const raw = await rawClient(server);
    const url = server.url.replace('//', '//comet:secret@');
    const rights = words.filter((word) => word.startsWith('+'));
    expect(rights.length).to.be.at.least(25);
    for (const right of rights) {
      await server.command('ACL', 'SETUSER', 'comet', right.replace('+', '-'));
      const { push, message } = await refusal(createClient({ url, database: 1 }));
      const name = right.slice(1);
      expect(message, right).to.match(
        new RegExp(`\\+${name} to its ACL|'${name}' command.*docs/cluster\\.md`),
      );
      await server.command('ACL', 'SETUSER', 'comet', right);
      await healthy(push);
      await push.close();
    }
    await until(async () => (await raw.clientList()).length === 1);
    expect(await raw.keys('*'), 'nothing of the check is left').to.deep.equal([]);
  });

  it('since its keys or topics are others is told with the pattern that is missing', async () => {
    const server = await RedisServer.start();
    await server.command(...(await documentedUser()));
    const url = server.url.replace('//', '//comet:secret@');
    await server.command('ACL', 'SETUSER', 'comet', 'resetchannels', '&other:*');
    const topics = await refusal(createClient({ url }));
    expect(topics.message).to.match(/add &\{express-comet\}:\* to its ACL/);
    await server.command('ACL', 'SETUSER', 'comet', 'allchannels', 'resetkeys', '~other:*');
    const keys = await refusal(createClient({ url }));
    expect(keys.message).to.match(/key.*docs\/cluster\.md/);
  });

  it('since the password is wrong, or missing, is told so, by both packages, and leaves no connection', async () => {
    const server = await RedisServer.start({ args: ['--requirepass', 'right'] });
    const wrong = server.url.replace('//', '//:wrong@');
    const cases: [client: RedisOptions['client'], message: RegExp][] = [
      [
        createClient({ url: wrong }),
        /refuses the password.*: correct username and password of the client\.$/,
      ],
      [
        createClient({ url: server.url }),
        /requires a password.*: set username and password of the client\.$/,
      ],
      [
        new Redis(wrong, { lazyConnect: true }),
        /refuses the password.*: correct username and password of the client\.$/,
      ],
      [
        new Redis(server.url, { lazyConnect: true }),
        /requires a password.*: set username and password of the client\.$/,
      ],
    ];
    const raw = createClient({ url: server.url.replace('//', '//:right@') });
    await raw.connect();
    for (const [client, text] of cases) {
      const { push, message } = await refusal(client);
      expect(message).to.match(text);
      expect((await push.health()).reason).to.match(text);
      await push.close();
      await until(async () => (await raw.clientList()).length === 1);
    }
    raw.destroy();
  });

  it('since it is too old is told with its version, and leaves nothing in it', async () => {
    const server = await RedisServer.start();
    // Tells that the server is of version 6.
    const older = createServer((client) => {
      const upstream = connect({ port: server.port, host: '127.0.0.1' });
      client.on('error', () => {}).pipe(upstream);
      upstream.on('error', () => {}).on('close', () => client.destroy());
      upstream.on('data', (chunk) => {
        const text = chunk.toString('latin1').replace(/(?<=\r\n)\d(?=\.\d+\.\d+\r\n$)/, '6');
        client.write(Buffer.from(text, 'latin1'));
      });
    });
    const { port } = await TestServer.listen(older as never);
    const { push, message } = await refusal(createClient({ url: `redis://127.0.0.1:${port}` }));
    expect(message).to.match(/^Redis 6\.\d+\.\d+ is not supported: use Redis 7 or later, or Valkey\.$/);
    expect((await push.health()).reason).to.equal(message);
    expect(await (await rawClient(server)).keys('*')).to.deep.equal([]);
  });

  it('has each of its commands checked, and listed in the documentation', async () => {
    const called = Array.from(SCRIPT.matchAll(/redis\.p?call\('(\w+)'/g), ([, name]) => name!.toLowerCase());
    const check = await readFile('lib/engines/redis/check.ts', 'utf8');
    const rights = await documentedUser();
    expect(called.length).to.be.at.least(25);
    for (const name of new Set(called)) {
      expect(rights).to.include(`+${name}`);
      expect(check).to.include(`{ '${name.toUpperCase()}'`);
    }
  });
});
