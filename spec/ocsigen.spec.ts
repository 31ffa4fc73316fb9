import { expect } from 'chai';
import supertest from 'supertest';
import {
  Deferred,
  NonUniqueChannelNameError,
  type Outcome,
  TooManyVirtualChannelsError,
} from '../lib/index.js';
import { EventClient, RawClient, request, told } from './support/client.js';
import { delivered } from './support/outcomes.js';
import { hub, TestServer } from './support/server.js';

describe('What Channels of Ocsigen obliges to', () => {
  it('create ()', async () => {
    const { push, server } = await hub();
    const one = push.channels.create();
    const other = push.channels.create();
    expect(one.id).to.match(/^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
    expect(one.id).not.to.equal(other.id);
    const client = await EventClient.open(`${server.url}/${one.id}`);
    other.write('for others');
    one.write('for it');
    expect(await client.heard(1)).to.deep.equal(['for it']);
  });

  it('create ~name ()', async () => {
    const { push, server } = await hub();
    const news = push.channels.create({ name: 'news' });
    const client = await EventClient.open(`${server.url}/news`);
    expect(() => push.channels.create({ name: 'news' })).to.throw(NonUniqueChannelNameError);
    news.write('unharmed');
    expect(await client.heard(1)).to.deep.equal(['unharmed']);
    expect(push.channels.size).to.equal(1);
  });

  it('Too_many_virtual_channels, max_virtual_channels', async () => {
    const { push, server } = await hub({ maxVirtualChannels: 2 });
    const first = push.channels.create();
    const second = push.channels.create();
    expect(() => push.channels.create()).to.throw(TooManyVirtualChannelsError);
    expect(() => push.channels.open('third')).to.throw(TooManyVirtualChannelsError);
    expect(push.channels.open(second.id)).to.equal(second);
    first.end();
    const third = push.channels.create({ name: 'third' });
    const client = await EventClient.open(`${server.url}/third`);
    third.write('room again');
    expect(await client.heard(1)).to.deep.equal(['room again']);

    const { push: boundless } = await hub();
    for (let channels = 0; channels < 1000; channels += 1) boundless.channels.create();
    expect(boundless.channels.size).to.equal(1000);
  });

  it('write c (s, None)', async () => {
    const { push, server } = await hub();
    const news = push.channels.create({ name: 'news' });
    const outcomes: unknown[] = [];
    push.on('outcome', (event) => outcomes.push(event));
    const client = await EventClient.open(`${server.url}/news`);
    expect(news.write('untracked')).to.equal(undefined);
    expect(await client.heard(1)).to.deep.equal(['untracked']);
    await news.send('tracked');
    expect(outcomes).to.have.length(1);
  });

  it('write c (s, Some u)', async () => {
    const { push, server } = await hub();
    const news = push.channels.create({ name: 'news' });
    const client = await EventClient.open(`${server.url}/news`);
    const outcome = new Deferred<Outcome>();
    expect(news.write('one', { outcome })).to.equal(undefined);
    expect(await outcome.promise).to.deep.equal(delivered(1));
    expect(await news.send('two')).to.deep.equal(delivered(1));
    expect(await client.heard(2)).to.deep.equal(['one', 'two']);
  });

  it('listeners c', async () => {
    const { push, server, port } = await hub();
    const news = push.channels.create({ name: 'news' });
    expect(news.listeners).to.equal(0);
    await EventClient.open(`${server.url}/news`);
    expect(news.listeners).to.equal(1);
    const joined = told(push.on.bind(push, 'join'));
    const client = await RawClient.get(port, '/news');
    await joined;
    expect(news.listeners).to.equal(2);

    // It goes with bytes unread, by which its kernel resets the connection; the server has yet to see it.
    const left = told(push.on.bind(push, 'leave'));
    client.socket.destroy();
    expect(news.listeners).to.equal(2);
    const { reasons, ...counts } = await news.send('who is there?');
    expect(counts).to.deep.equal({ status: 'failure', listeners: 2, delivered: 1, failed: 1, unknown: 0 });
    expect(reasons).to.have.any.keys('closed', 'error');
    await left;
    expect(news.listeners).to.equal(1);
  });

  it('get_id c', async () => {
    const { push, server } = await hub();
    const channel = push.channels.create();
    const client = await EventClient.open(`${server.url}/${channel.id}`);
    channel.write('found');
    expect(await client.heard(1)).to.deep.equal(['found']);
    expect(push.channels.create({ name: 'news' }).id).to.equal('news');
  });

  it('find_channel', async () => {
    const { push, server } = await hub();
    push.channels.create({ name: 'news' });
    const client = await EventClient.open(`${server.url}/news`);
    push.channels.find('news')?.write('by its name');
    expect(await client.heard(1)).to.deep.equal(['by its name']);
    expect(push.channels.find('gone')).to.equal(undefined);
    expect(push.channels.find('__proto__')).to.equal(undefined);
  });

  it('registration on several channels', async () => {
    const { push, server } = await hub();
    const channels = ['news', 'chat', 'prices'].map((name) => push.channels.create({ name }));
    const client = await EventClient.open(`${server.url}/?chan_id=news&chan_id=chat&chan_id=prices`);
    expect(server.sockets.size).to.equal(1);
    expect(channels.map(({ listeners }) => listeners)).to.deep.equal([1, 1, 1]);
    for (const channel of channels) channel.write(channel.id);
    expect(await client.heard(3)).to.deep.equal(['news', 'chat', 'prices']);
  });

  it('ENDED_CHANNEL', async () => {
    const { push, server } = await hub();
    const news = push.channels.create({ name: 'news' });
    const chat = push.channels.create({ name: 'chat' });
    const client = await EventClient.open(`${server.url}/news?chan_id=chat`);
    news.write('the last');
    news.end();
    await client.until(() => client.events.at(-1)?.event === 'comet:end');
    expect(client.messages).to.deep.equal(['the last']);
    expect(client.events.at(-1)?.data).to.equal('{"channel":"news"}');
    // The stream goes on for what it still carries, and ends with the last of it.
    chat.write('still here');
    chat.end();
    await client.ended();
    expect(client.messages).to.deep.equal(['the last', 'still here']);
    expect(client.events.at(-1)?.data).to.equal('{"channel":"chat"}');
    // A client that comes back stops hoping; for others there is no such channel once it lingers no more.
    await supertest(server.url).get('/news').set('Last-Event-ID', client.lastEventId).expect(204);
    push.channels.create({ name: 'news' }).end({ linger: 0 });
    await supertest(server.url).get('/news').expect(404);
  });

  it('an empty registration is 400', async () => {
    const { server, push } = await hub();
    push.channels.create({ name: 'news' });
    await supertest(server.url).get('/').expect(400);
  });

  it('Security.deactivate / activate / activated', async () => {
    const { push, server } = await hub();
    const news = push.channels.create({ name: 'news' });
    const clients = [
      await EventClient.open(`${server.url}/news`),
      await EventClient.open(`${server.url}/news`),
    ];
    expect(push.activated).to.equal(true);
    push.deactivate();
    expect(push.activated).to.equal(false);
    for (const client of clients) await client.ended();
    expect(news.listeners).to.equal(0);
    await supertest(server.url).get('/news').expect(503);

    push.activate();
    expect(push.activated).to.equal(true);
    const client = await EventClient.open(`${server.url}/news`);
    news.write('again');
    expect(await client.heard(1)).to.deep.equal(['again']);
  });

  it('Security.set_timeout ?reset', async () => {
    const { push, server } = await hub();
    const news = push.channels.create({ name: 'news' });
    const old = await EventClient.open(`${server.url}/news`);
    push.setTimeout(50);
    const timedOut = told(push.on.bind(push, 'leave'));
    const young = await EventClient.open(`${server.url}/news`);
    await young.ended();
    expect(await timedOut).to.include({ listener: young.opening.listener, reason: 'timeout' });
    // The one that was there before has none of it, until it is reset.
    news.write('not for long');
    expect(await old.heard(1)).to.deep.equal(['not for long']);
    push.setTimeout(60_000, { reset: true });
    await old.ended();
    expect(news.listeners).to.equal(0);
  });

  it("the same as commands on the server's pipe", async () => {
    const { push, server } = await hub();
    push.channels.create({ name: 'news' });
    const office = supertest((await TestServer.listen(push.admin())).url);
    const client = await EventClient.open(`${server.url}/news`);
    await office.put('/timeout').send({ timeout: 60_000, reset: true }).expect(200);
    await client.ended();
    await office.post('/deactivate').expect(200);
    await supertest(server.url).get('/news').expect(503);
    await office.post('/activate').expect(200);
    await EventClient.open(`${server.url}/news`);
  });

  describe('without its known faults', () => {
    it('two listeners settle one deferred once', async () => {
      const { push, server } = await hub();
      const news = push.channels.create({ name: 'news' });
      const clients = [
        await EventClient.open(`${server.url}/news`),
        await EventClient.open(`${server.url}/news`),
      ];
      const outcomes: Outcome[] = [];
      const resolve = (outcome: Outcome) => void outcomes.push(outcome);
      news.write('both', { outcome: { resolve } });
      for (const client of clients) await client.heard(1);
      // Whatever else becomes of the streams, and of writes that come later.
      await news.send('later');
      push.deactivate();
      for (const client of clients) await client.ended();
      expect(outcomes).to.deep.equal([delivered(2)]);
    });

    it('a write to no listener settles', async () => {
      const { push, server } = await hub();
      const news = push.channels.create({ name: 'news' });
      expect(await news.send('anybody?')).to.deep.equal(delivered(0));
      const client = await EventClient.open(`${server.url}/news`);
      expect(await news.send('somebody')).to.deep.equal(delivered(1));
      const left = told(push.on.bind(push, 'leave'));
      client.close();
      await left;
      expect(await news.send('nobody')).to.deep.equal(delivered(0));
    });

    it('a request that failed does not stay counted', async () => {
      const gate = new Deferred<boolean>();
      const asked = new Deferred<void>();
      const { push, server, port } = await hub({
        authorize: ({ headers }) => {
          if (headers.cookie === undefined) return headers['x-let'] === 'in';
          asked.resolve();
          return gate.promise;
        },
      });
      const news = push.channels.create({ name: 'news' });
      await supertest(server.url).get('/news').expect(403);
      await supertest(server.url).get('/news').set('Accept', 'text/html').expect(406);
      await supertest(server.url).post('/news').expect(405);
      await supertest(server.url).head('/news').set('x-let', 'in').expect(200);
      const client = await RawClient.connect(port);
      client.send(request('/news', { Cookie: 'slow' }));
      await asked.promise;
      const gone = new Promise<void>((resolve) => {
        for (const socket of server.sockets) socket.on('close', () => server.sockets.size === 0 && resolve());
      });
      await client.reset();
      await gone;
      gate.resolve(true);
      await EventClient.open(`${server.url}/news`, { 'x-let': 'in' });
      expect(news.listeners).to.equal(1);
      expect(await news.send('one')).to.deep.equal(delivered(1));
    });

    it('what was written between two connections is not lost', async () => {
      const { push, server } = await hub();
      const news = push.channels.create({ name: 'news' });
      const first = await EventClient.open(`${server.url}/news`);
      news.write('1');
      await first.heard(1);
      const left = told(push.on.bind(push, 'leave'));
      first.close();
      news.write('2');
      await left;
      news.write('3');
      const second = await EventClient.open(`${server.url}/news`, { 'Last-Event-ID': first.lastEventId });
      news.write('4');
      expect(second.opening.recovered).to.equal(true);
      expect(await second.heard(3)).to.deep.equal(['2', '3', '4']);
    });
  });
});
