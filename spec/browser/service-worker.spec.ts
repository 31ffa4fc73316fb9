import { expect } from 'chai';
import express from 'express';
import type { Browser } from 'playwright-core';
import type { CometEvents } from '../../lib/index.js';
import { readPage } from '../docs/page.js';
import { told } from '../support/client.js';
import { cleanup, hub } from '../support/server.js';
import { launch } from './stand.js';

/** The service worker that the page shows, with the part that lets streams pass, and without. */
const shown = readPage('docs/proxies.md').blocks.find(({ code }) => code.includes('respondWith'))?.code ?? '';

describe('An EventSource behind a service worker', () => {
  let browser: Browser;
  before(async () => {
    browser = await launch();
  });
  after(() => browser?.close());

  /** Opens a stream on a page that a service worker controls, and breaks its connection. */
  async function broken(worker: string) {
    const { push, server } = await hub({ retry: [10, 20] }, (push) =>
      express()
        .use('/channels', push)
        .get('/worker.js', (_request, response) => void response.type('js').send(worker))
        .get('/', (_request, response) => void response.send('<!doctype html><title>-</title>')),
    );
    const news = push.channels.create({ name: 'news' });
    const context = await browser.newContext();
    cleanup(() => context.close());
    const page = await context.newPage();
    await page.goto(server.url);
    await page.evaluate(
      "navigator.serviceWorker.register('/worker.js').then(() => navigator.serviceWorker.ready).then(() => {})",
    );
    await page.reload();
    expect(await page.evaluate('navigator.serviceWorker.controller !== null')).to.equal(true);

    const joined = told<CometEvents['join']>((handler) => push.on('join', handler));
    await page.evaluate(`
      globalThis.heard = [];
      globalThis.source = new EventSource('/channels/news');
      source.onmessage = ({ data }) => heard.push(data);
      null`);
    await joined;
    news.write('before');
    await page.waitForFunction('heard.length === 1');

    const left = told<CometEvents['leave']>((handler) => push.on('leave', handler));
    for (const socket of server.sockets) socket.resetAndDestroy();
    await left;
    news.write('meanwhile');
    return page;
  }

  it('comes back where the worker leaves event streams alone, as the documentation shows', async () => {
    const page = await broken(shown);
    await page.waitForFunction('heard.length === 2');
    expect(await page.evaluate('heard')).to.deep.equal(['before', 'meanwhile']);
  });

  it('is closed for good where the worker answers them by fetch', async () => {
    const page = await broken(
      "addEventListener('fetch', (event) => event.respondWith(fetch(event.request)));",
    );
    await page.waitForFunction('source.readyState === EventSource.CLOSED');
  });
});
