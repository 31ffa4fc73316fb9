import { expect } from 'chai';
import type { Browser } from 'playwright-core';
import { createClient } from 'redis';
import { redis as redisBackplane } from '../../lib/engines/redis/redis.js';
import type { CometOptions } from '../../lib/index.js';
import { snippet, withoutTypes } from '../docs/snippet.js';
import { RedisServer } from '../support/redis.js';
import { cleanup } from '../support/server.js';
import { type Failure, Site } from './site.js';
import { launch } from './stand.js';

describe('A client of the documentation, in a browser', function () {
  this.timeout(20_000);

  let browser: Browser;

  before(async () => {
    browser = await launch();
  });

  after(() => browser.close());

  async function open(...options: Tail<Parameters<typeof Site.open>>): Promise<Site> {
    const site = await Site.open(browser, ...options);
    cleanup(() => site.page.context().close());
    return site;
  }

  /** Clients that go on after an answer that is no stream. */
  const clients: {
    name: string;
    code: () => string;
    hasTickets?: boolean;
    /** What fails, once and then twice. */
    failures: readonly Record<string, Failure[]>[];
    /** What it asks for when its only channel has ended. */
    last: readonly string[];
  }[] = [
    {
      name: 'proxies.md',
      code: () => snippet('docs/proxies.md', 'new EventSource('),
      failures: [{ '/channels': [502] }, { '/channels': [502, 503, 502, 'reset'] }],
      last: ['GET /channels', 'HEAD /channels'],
    },
    {
      name: 'authorization.md',
      code: () => snippet('docs/authorization.md', "'/tickets', { method: 'POST' }"),
      hasTickets: true,
      failures: [{ '/tickets': [503] }, { '/channels': [502], '/tickets': [503, 'reset'] }],
      last: [],
    },
    {
      name: 'wire.md',
      code: () => `${withoutTypes(snippet('docs/wire.md', 'interface Handlers'))}
        const status = await listen(location.origin + '/channels?chan_id=news', {
          event: ({ data }) => console.log(data),
          channels: () => {},
          gap: (channels) => console.log('gap ' + channels),
          end: () => {},
        });`,
      failures: [{ '/channels': [502] }, { '/channels': ['reset', 429] }],
      last: ['GET /channels'],
    },
  ];

  for (const { name, code, hasTickets, failures, last } of clients) {
    describe(`that of ${name}`, () => {
      it('hears each event once, whatever its name, though its server fails once and twice', async () => {
        const site = await open({}, hasTickets);
        const news = site.push.channels.create({ name: 'news' });
        const write = (text: string) => {
          for (const event of [undefined, 'alert']) news.write(`${event}: ${text}`, { event });
        };
        await site.run(code());
        await site.joined();
        write('first');
        await site.prints(2);
        for (const [round, failing] of failures.entries()) {
          site.fail(failing);
          await site.cut();
          write(`missed ${round}`);
          await site.joined();
          write(`live ${round}`);
          await site.prints(6 + 4 * round);
        }
        write('last');
        await site.prints(12);
        const texts = ['first', 'missed 0', 'live 0', 'missed 1', 'live 1', 'last'];
        expect(site.printed).to.deep.equal(texts.flatMap((text) => [`undefined: ${text}`, `alert: ${text}`]));
      });

      it('is given what a newcomer gets once, though its server fails right after that', async () => {
        const site = await open({ rewind: 2 }, hasTickets);
        const news = site.push.channels.create({ name: 'news' });
        news.write('one', { event: 'alert' });
        news.write('two');
        await site.run(code());
        await site.prints(2);
        // What a client by fetch has heard is not told; it came before this answer.
        if (name === 'wire.md') await site.timers();
        else await site.until(() => site.heard.includes('comet:ready'));
        site.fail(...failures);
        await site.cut();
        await site.joined();
        news.write('three');
        expect(await site.prints(3)).to.deep.equal(['one', 'two', 'three']);
      });

      it('asks for nothing any more when its channel has ended', async () => {
        const site = await open({}, hasTickets);
        const news = site.push.channels.create({ name: 'news' });
        await site.run(code());
        await site.joined();
        site.requests.length = 0;
        news.write('last');
        news.end();
        expect(await site.prints(1)).to.deep.equal(['last']);
        await site.until(() => site.requests.length >= last.length);
        expect(await site.timers()).to.equal(0);
        expect(site.requests).to.deep.equal(last);
      });
    });
  }

  describe('that of the guide, which keeps a state', () => {
    const code = snippet('docs/guide.md', "new EventSource('/channels/stock')");

    /** The page, a function that sells an apple, and what the page has shown. */
    async function shop(
      options: CometOptions = {},
      held?: (() => void)[],
      failures: readonly (number | 'reset')[] = [],
    ) {
      const site = await open(options);
      site.held = held;
      site.fail({ '/stock': [...failures] });
      const changes = site.push.channels.create<object>({ name: 'stock' });
      site.stock = { apples: 12 };
      const sell = () => {
        site.stock.apples! -= 1;
        changes.write({ item: 'apples', left: site.stock.apples });
      };
      await site.run(`new MutationObserver(() => console.log(document.body.textContent))
        .observe(document.body, { childList: true });
        ${code}`);
      return { site, sell };
    }

    it('shows it, though the request for it fails once and twice', async () => {
      for (const failures of [[503], ['reset', 502]] as const) {
        const { site, sell } = await shop({}, undefined, failures);
        await site.joined();
        await site.prints(1);
        sell();
        expect(await site.prints(2)).to.deep.equal(['12 apples', '11 apples']);
        expect(site.requests.filter((each) => each === 'GET /stock')).to.have.length(failures.length + 1);
      }
    });

    it('goes on from it where the stream breaks once and twice', async () => {
      const { site, sell } = await shop();
      await site.prints(1);
      for (let round = 0; round < 3; round += 1) {
        await site.cut();
        sell();
        await site.joined();
        sell();
        await site.prints(3 + 2 * round);
      }
      const shown = [12, 11, 10, 9, 8, 7, 6].map((count) => `${count} apples`);
      expect(site.printed).to.deep.equal(shown);
      expect(site.requests.filter((each) => each === 'GET /stock')).to.have.length(1);
    });

    for (const { order, first } of [
      { order: 'in turn', first: 0 },
      { order: 'the later one first', first: 1 },
    ]) {
      it(`has the newest where two requests for it overlap, and are answered ${order}`, async () => {
        const held: (() => void)[] = [];
        const { site, sell } = await shop({ log: { frames: 1 } }, held);
        await site.until(() => held.length === 1);
        await site.cut();
        // One more than is retained.
        sell();
        sell();
        await site.until(() => held.length === 2);
        sell();
        await site.until(() => site.heard.includes('message'));
        held[first]!();
        held[1 - first]!();
        await site.prints(1);
        expect(site.printed.at(-1)).to.equal('9 apples');
        await site.timers();
        sell();
        await site.until(() => site.printed.at(-1) === '8 apples');
        expect(site.printed).not.to.include('12 apples');
      });
    }

    it('fetches it anew where something of it is lost to the open stream', async () => {
      const redis = await RedisServer.start();
      const backplane = redisBackplane({ client: createClient({ url: redis.url }) });
      const { site, sell } = await shop({ backplane });
      await site.prints(1);
      await redis.command('FLUSHALL');
      site.stock.apples = 5;
      await site.until(() => site.printed.at(-1) === '5 apples');
      sell();
      await site.until(() => site.printed.at(-1) === '4 apples');
      expect(site.heard.filter((name) => name === 'comet:open')).to.have.length(1);
    });
  });

  it('that empties its list where a start follows, as the guide says, lists each event once', async () => {
    const site = await open({ rewind: 3, log: { frames: 3 } });
    const chat = site.push.channels.create({ name: 'chat' });
    const write = (...texts: string[]) => texts.map((text) => chat.write(text));
    write('1', '2', '3');
    await site.run(`const source = new EventSource('/channels/chat');
      let list = [];
      source.addEventListener('comet:open', ({ lastEventId }) => {
        if (lastEventId.includes('!')) list = [];
      });
      source.onmessage = ({ data }) => console.log(list.push(data) && list.join());`);
    await site.until(() => site.printed.at(-1) === '1,2,3');
    await site.cut();
    write('4');
    await site.until(() => site.printed.at(-1) === '1,2,3,4');
    await site.cut();
    // One more than is retained.
    write('5', '6', '7', '8');
    await site.until(() => site.printed.at(-1) === '6,7,8');
  });

  it('as README shows it, loads a channel that has a gap, and no other', async () => {
    const site = await open({ log: { frames: 1 } });
    const [news, prices] = ['news', 'prices'].map((name) => site.push.channels.create({ name }));
    await site.run(`const load = (channel) => console.log('load ' + channel);
      ${snippet('README.md', 'chan_id=news&chan_id=prices')}
      source.addEventListener('quote', (event) => console.log(event.data));`);
    for (const round of [1, 2]) {
      await site.joined();
      await site.cut();
      news?.write('missed');
      prices?.write(`quote ${round}`, { event: 'quote' });
      news?.write('retained');
      await site.prints(2 * round);
    }
    expect(site.printed).to.deep.equal(['load news', 'quote 1', 'load news', 'quote 2']);
    expect(site.requests).not.to.include('navigation');
  });
});

type Tail<All extends readonly unknown[]> = All extends readonly [unknown, ...infer Rest] ? Rest : never;
