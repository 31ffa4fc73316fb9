import { expect } from 'chai';
import {
  type Channel,
  ChannelEndedError,
  type Comet,
  type CometEvents,
  comet,
  Deferred,
  HubClosedError,
  InvalidDataError,
  InvalidEventNameError,
  InvalidOptionError,
  inProcess,
  type Outcome,
} from '../lib/index.js';
import { EventClient, told } from './support/client.js';
import { run } from './support/process.js';
import { hub, TestServer } from './support/server.js';

const dropped: Outcome = {
  status: 'failure',
  listeners: 1,
  delivered: 0,
  failed: 1,
  unknown: 0,
  reasons: { ended: 1 },
};

/** Ways by which a channel ends that somebody goes on writing on. */
const ways: [string, () => Promise<{ push: Comet; news: Channel }>][] = [
  [
    'by its own end()',
    async () => {
      const { push } = await hub();
      const news = push.channels.create({ name: 'news' });
      news.end();
      return { push, news };
    },
  ],
  [
    'by an operator',
    async () => {
      const { push } = await hub();
      const news = push.channels.create({ name: 'news' });
      const office = await TestServer.listen(push.admin());
      const { status } = await fetch(`${office.url}/channels/news`, { method: 'DELETE' });
      expect(status).to.equal(200);
      return { push, news };
    },
  ],
  [
    'on another node',
    async () => {
      const backplane = inProcess();
      const [{ push }, other] = [await hub({ backplane }), await hub({ backplane })];
      const news = push.channels.open('news');
      other.push.channels.open('news').end();
      return { push, news };
    },
  ],
  [
    'by its own encode, in the middle of the write',
    async () => {
      const { push } = await hub();
      const news: Channel = push.channels.create({
        name: 'news',
        encode: () => {
          news.end();
          return 'x';
        },
      });
      return { push, news };
    },
  ],
];

describe('A write on a channel that has ended', () => {
  for (const [way, end] of ways) {
    describe(way, () => {
      it('throws nothing, and drop tells of it', async () => {
        const { push, news } = await end();
        const drop = told<CometEvents['drop']>((on) => push.on('drop', on));
        expect(news.write('late', { event: 'said' })).to.equal(undefined);
        const { cause, ...rest } = await drop;
        expect(rest).to.deep.equal({ channel: 'news', event: 'said', happened: 'never', count: 1 });
        expect(cause).to.be.an.instanceof(ChannelEndedError).with.property('chanId', 'news');
        expect(news.inspect()).to.include({ writes: 0, lastWrite: null });
        expect(push.inspect()).to.include({ writes: 0 });
      });

      it('settles its outcome as a failure, by send() and by a Deferred', async () => {
        const { push, news } = await end();
        const settled = told((on) => push.on('outcome', on));
        expect(await news.send('late')).to.deep.equal(dropped);
        expect(await settled).to.deep.include({ channel: 'news', position: '', outcome: dropped });
        const outcome = new Deferred<Outcome>();
        news.write('later', { outcome });
        expect(await outcome.promise).to.deep.equal(dropped);
        const { perNode = {} } = await news.send('last', { perNode: true });
        expect(Object.values(perNode)).to.deep.equal([dropped]);
      });
    });
  }

  it('does not end the process, when an operator ends the channel of a timer', async () => {
    const { code, stdout, stderr } = await run(`
      import { createServer } from 'node:http';
      import { once } from 'node:events';
      import { comet } from './lib/index.ts';
      const push = comet();
      const news = push.channels.create({ name: 'news' });
      const office = createServer(push.admin()).listen(0, '127.0.0.1');
      await once(office, 'listening');
      const timer = setInterval(() => news.write('tick'), 5);
      const sent = setInterval(async () => console.log((await news.send('tock')).status), 5);
      await fetch('http://127.0.0.1:' + office.address().port + '/channels/news', { method: 'DELETE' });
      for (let drops = 0; drops < 4; drops += 1) await new Promise((drop) => push.on('drop', drop));
      clearInterval(timer);
      clearInterval(sent);
      office.close();
      await push.close();
    `);
    expect([code, stderr]).to.deep.equal([0, '']);
    expect(stdout).to.include('failure');
  });

  it('counts for the listeners that have yet to read the end', async () => {
    const { push, server } = await hub();
    const news = push.channels.create({ name: 'news' });
    const clients = [
      await EventClient.open(`${server.url}/news`),
      await EventClient.open(`${server.url}/news`),
    ];
    news.write('last words');
    news.end();
    const late = { ...dropped, listeners: 2, failed: 2, reasons: { ended: 2 } };
    expect(await news.send('late')).to.deep.equal(late);
    for (const client of clients) {
      await client.ended();
      expect(client.messages).to.deep.equal(['last words']);
    }
  });

  it('lets the event loop go round in a loop that awaits each', async () => {
    const news = comet().channels.create();
    news.end();
    let turns = 0;
    const turn = () => {
      turns += 1;
      immediate = setImmediate(turn);
    };
    let immediate = setImmediate(turn);
    for (let count = 0; count < 10; count += 1) await news.send('late');
    clearImmediate(immediate);
    expect(turns).to.be.at.least(9);
  });

  it('still throws what is wrong with the write itself', () => {
    const news = comet().channels.create();
    news.end();
    expect(() => news.write(undefined)).to.throw(InvalidDataError);
    expect(() => news.write('x', { event: 'comet:x' })).to.throw(InvalidEventNameError);
    expect(() => news.write('x', { outcome: 5 } as never)).to.throw(InvalidOptionError);
  });

  it('is none on a channel that is made anew under its name', async () => {
    const { push, server } = await hub();
    const old = push.channels.create({ name: 'news' });
    old.end();
    const news = push.channels.create({ name: 'news' });
    const client = await EventClient.open(`${server.url}/news`);
    old.write('old');
    news.write('new');
    expect(await client.heard(1)).to.deep.equal(['new']);
    expect([old.ended, news.ended]).to.deep.equal([true, false]);
  });
});

describe('The signal of a channel', () => {
  for (const [way, end] of ways.slice(0, 3)) {
    it(`has aborted where the channel has ended ${way}, and ended says so`, async () => {
      const { news } = await end();
      expect(news.ended).to.equal(true);
      expect(news.signal.aborted).to.equal(true);
      expect(news.signal.reason).to.be.an.instanceof(ChannelEndedError).with.property('chanId', 'news');
    });
  }

  it('aborts when the channel ends, after the call that ends it', async () => {
    const push = comet();
    const news = push.channels.create();
    const { signal } = news;
    expect(news.signal).to.equal(signal);
    expect([news.ended, signal.aborted]).to.deep.equal([false, false]);
    let inside = true;
    const heard = new Promise<boolean>((resolve) => signal.addEventListener('abort', () => resolve(inside)));
    news.end();
    inside = false;
    expect(await heard).to.equal(false);
    expect(signal.reason).to.be.an.instanceof(ChannelEndedError);
  });

  it('aborts when the hub closes, though the channel has not ended', async () => {
    const push = comet();
    const [asked, fresh] = [push.channels.create(), push.channels.create()];
    const { signal } = asked;
    const closed = push.close();
    expect(fresh.signal.aborted).to.equal(true);
    await closed;
    expect(signal.reason).to.be.an.instanceof(HubClosedError);
    expect(asked.ended).to.equal(false);
    expect(await asked.send('into a closed hub')).to.include({ status: 'success', listeners: 0 });
  });

  it('is taken by timers and pipe, by very many without a warning', async () => {
    const { code, stderr } = await run(`
      import { setTimeout as wait } from 'node:timers/promises';
      import { comet } from './lib/index.ts';
      const push = comet();
      const [news, copy] = [push.channels.create(), push.channels.create()];
      const { signal } = news;
      const waits = Array.from({ length: 30 }, () => wait(60_000, undefined, { signal }));
      async function* endless() { while (true) yield await wait(1, 'x'); }
      waits.push(copy.pipe(endless(), { signal }));
      news.end();
      const ends = await Promise.allSettled(waits);
      for (const { reason } of ends) if ((reason.cause ?? reason).code !== 'CHANNEL_ENDED') throw reason;
    `);
    expect([code, stderr]).to.deep.equal([0, '']);
  });
});
