import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import compression from 'compression';
import cors from 'cors';
import express, { type Express } from 'express';
import helmet from 'helmet';
import type { Browser, Page } from 'playwright-core';
import type { Comet, CometEvents } from '../../lib/index.js';
import { told } from '../support/client.js';
import { instead, proxied } from '../support/nginx.js';
import { delivered } from '../support/outcomes.js';
import { cleanup, hub, TestServer } from '../support/server.js';
import { launch } from './stand.js';

const PAGE = '<!doctype html><title>-</title>';
const app = () => express().get('/', (_request, response) => void response.type('html').send(PAGE));

// Opens a stream at what its query says, and says what happens.
const SCRIPT = `
  const [url, withCredentials] = JSON.parse(decodeURIComponent(location.search.slice(1)));
  const source = new EventSource(url, { withCredentials });
  const say = (text) => document.querySelector('output').append(text + '; ');
  source.addEventListener('comet:open', (event) => say('recovered: ' + JSON.parse(event.data).recovered));
  source.addEventListener('message', (event) => say(event.data));
  source.addEventListener('error', () => say(source.readyState === 2 ? 'closed' : 'to come again'));
`;

describe('A browser', function () {
  this.timeout(20_000);

  let browser: Browser;

  before(async () => {
    browser = await launch();
  });

  after(() => browser.close());

  async function visit(url: string): Promise<Page> {
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    cleanup(() => context.close());
    const page = await context.newPage();
    await page.goto(url);
    return page;
  }

  /** Waits until so many streams have been opened. */
  async function joined(push: Comet, count: number): Promise<void> {
    while (push.inspect().listeners < count) {
      await told<CometEvents['join']>((handler) => push.on('join', handler));
    }
  }

  describe('behind nginx', () => {
    const open = (count: number) => `
      globalThis.opened = 0;
      globalThis.heard = 0;
      globalThis.sources = Array.from({ length: ${count} }, () => {
        const source = new EventSource('/channels/news');
        source.addEventListener('comet:open', () => { opened += 1; });
        source.addEventListener('message', () => { heard += 1; });
        source.addEventListener('error', () => source.close());
        return source;
      });
      null`;

    it('opens as many streams as it likes, over HTTP/2', async () => {
      const STREAMS = 20;
      const { push, news, nginx } = await proxied({}, { app });
      const page = await visit(nginx.url);
      await page.evaluate(open(STREAMS));
      await joined(push, STREAMS);
      expect(await news.send('to all')).to.deep.equal(delivered(STREAMS));
      await page.waitForFunction(`heard === ${STREAMS}`);
      // What was transferred is told when it is over.
      news.end();
      const used = await page.evaluate<string[]>(`new Promise((resolve) => {
        const used = [];
        new PerformanceObserver((list) => {
          for (const { name, nextHopProtocol } of list.getEntries()) {
            if (name.endsWith('/channels/news')) used.push(nextHopProtocol);
          }
          if (used.length === ${STREAMS}) resolve(used);
        }).observe({ type: 'resource', buffered: true });
      })`);
      expect(new Set(used)).to.deep.equal(new Set(['h2']));
    });

    it('opens six over HTTP/1.1, and no more', async () => {
      const change = (site: string) => instead(site, ' http2;', ';');
      const { push, news, nginx } = await proxied({}, { app, change });
      const page = await visit(nginx.url);
      await page.evaluate(open(7));
      await joined(push, 6);
      for (let round = 1; round <= 10; round += 1) {
        expect(await news.send('to six')).to.deep.equal(delivered(6));
        await page.waitForFunction(`heard === ${6 * round}`);
      }
      expect(await page.evaluate('opened')).to.equal(6);
      await page.evaluate('sources.find((source) => source.readyState === EventSource.OPEN).close()');
      await page.waitForFunction('opened === 7');
    });
  });

  describe('whose server goes away behind nginx', () => {
    it('is answered by 502, and comes back by what docs/proxies.md has for it', async () => {
      const document = readFileSync(new URL('../../docs/proxies.md', import.meta.url), 'utf8');
      const [, script = ''] = /^```js\n(.*?)^```$/ms.exec(document) ?? [];
      const { push, news, server, nginx } = await proxied({ retry: [1, 1] }, { app });
      const page = await visit(nginx.url);
      const heard: string[] = [];
      const errors: string[] = [];
      page.on('console', (message) => {
        (message.type() === 'log' ? heard : errors).push(message.text());
      });
      const says = async (lines: string[], text: string) => {
        while (!lines.some((line) => line.includes(text))) await page.waitForEvent('console');
      };
      await page.addScriptTag({ content: instead(script, '2000 + 8000 * Math.random()', '1') });
      await joined(push, 1);
      expect(await news.send('one')).to.deep.equal(delivered(1));
      await says(heard, 'one');
      const { port } = server;
      await server.close();
      await says(errors, '502');
      news.write('two');
      server.server.listen(port, '127.0.0.1');
      await once(server.server, 'listening');
      await says(heard, 'two');
      expect(heard).to.deep.equal(['one', 'two']);
    });
  });

  describe('on a page of another origin', () => {
    /** A page, behind helmet, that sets a cookie, and may connect to what `connectSrc` says. */
    async function site(connectSrc: () => string = () => "'self'"): Promise<string> {
      const pages = express()
        .use(helmet({ contentSecurityPolicy: { directives: { connectSrc: ["'self'", connectSrc] } } }))
        .get('/', (_request, response) => {
          response.cookie('session', 'mine', { httpOnly: true, sameSite: 'lax' }).type('html');
          response.send(`${PAGE}<output></output><script src="/page.js"></script>`);
        })
        .get('/page.js', (_request, response) => void response.type('js').send(SCRIPT));
      return (await TestServer.listen(pages)).url;
    }

    /** A hub behind everything, that lets in pages of this origin; and what it is asked. */
    async function channels(origin: () => string) {
      const requests: { method: string; cookie: string | undefined; cursor: string | undefined }[] = [];
      const { push, server } = await hub(
        {
          retry: [1, 1],
          authorize: ({ headers }) => {
            if (headers.cookie === 'session=mine') return true;
            throw Object.assign(new Error('Log in first.'), { status: 401 });
          },
        },
        (push): Express =>
          express()
            .use(({ method, headers }, _response, next) => {
              const cursor = headers['last-event-id'];
              requests.push({ method, cookie: headers.cookie, cursor: cursor as string | undefined });
              next();
            })
            .use(compression(), helmet())
            .use('/channels', cors({ origin: [origin()], credentials: true }), push),
      );
      const news = push.channels.create({ name: 'news' });
      return { push, news, requests, url: `${server.url}/channels/news`, origin: server.url };
    }

    async function listen(origin: string, url: string, withCredentials = true) {
      const page = await visit(`${origin}/?${encodeURIComponent(JSON.stringify([url, withCredentials]))}`);
      const output = page.locator('output');
      return { says: (text: string) => output.filter({ hasText: text }).waitFor() };
    }

    it('reads a stream with its cookie, and comes back to it, without a preflight', async () => {
      let allowed = '';
      const origin = await site(() => allowed);
      const { push, news, requests, url, ...rest } = await channels(() => origin);
      allowed = rest.origin;
      const page = await listen(origin, url);
      await page.says('recovered: true');
      expect(await news.send('one')).to.deep.equal(delivered(1));
      await page.says('one');
      push.setTimeout(null, { reset: true });
      news.write('two');
      await page.says('one; to come again; recovered: true; two; ');
      expect(requests).to.have.length(2);
      for (const { method, cookie } of requests) {
        expect({ method, cookie }).to.deep.equal({ method: 'GET', cookie: 'session=mine' });
      }
      expect(requests[1]?.cursor).to.match(/@news$/);
    });

    it('has no cookie without withCredentials', async () => {
      let allowed = '';
      const origin = await site(() => allowed);
      const { requests, url, ...rest } = await channels(() => origin);
      allowed = rest.origin;
      await (await listen(origin, url, false)).says('closed');
      expect(requests).to.deep.equal([{ method: 'GET', cookie: undefined, cursor: undefined }]);
    });

    it('reads nothing where cors does not name the origin', async () => {
      let allowed = '';
      const origin = await site(() => allowed);
      const { push, url, ...rest } = await channels(() => 'https://app.example');
      allowed = rest.origin;
      await (await listen(origin, url)).says('closed');
      // It was let in; the browser keeps it from the page.
      expect(push.inspect().refusals).to.deep.equal({});
    });

    it("is kept from it by its own page's policy, unless that names it", async () => {
      const origin = await site();
      const { requests, url } = await channels(() => origin);
      await (await listen(origin, url)).says('closed');
      expect(requests).to.deep.equal([]);
    });
  });
});
