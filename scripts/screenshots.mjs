// docs/screenshots/: both views of the demo, on one node and on two, light and dark, wide and narrow. Needs a browser and
// a Redis: `npm test` provides them. `npm run screenshots nodes` makes those of two nodes alone.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { chromium } from 'playwright-core';
import { createClient } from 'redis';
import { FLAGS, findBrowser } from './browser.mjs';
import { findRedis } from './redis.mjs';

process.chdir(join(import.meta.dirname, '..'));

const FOLDER = 'docs/screenshots';
const SIZES = { wide: { width: 1600, height: 1000 }, narrow: { width: 360, height: 780 } };
// Seconds of charts.
const WARM_UP = 90;
// Few people have something there.
const REDIS_PORT = 16_379;
const TEXTS = [
  'Good morning',
  'Is anybody here?',
  'Yes, twelve of us',
  'The log holds it all',
  'See you at four',
];

mkdirSync(FOLDER, { recursive: true });
const { path, env } = findBrowser();
const browser = await chromium.launch({ executablePath: path, env, args: [...FLAGS] });
const wanted = process.argv[2] ?? 'one nodes';
console.log(`each demo runs for ${WARM_UP} s, so that its charts have something to show`);
if (wanted.includes('one')) await shootOne();
if (wanted.includes('nodes')) await shootNodes();
await browser.close();

async function shootOne() {
  const demo = await startDemo();
  const page = await visit(demo);
  for (const name of ['news', 'bulk']) await demo.post('create', { name });
  await page.getByLabel('Listen to news').check();
  await demo.post('trouble/listen', { channel: 'chat', count: 10 });
  for (let second = 0; second < WARM_UP; second += 1) {
    await delay(1000);
    await talk(demo, second);
    if (second === 30) await demo.post('trouble/listen', { channel: 'news', count: 20 });
    if (second === 40) await demo.post('trouble/reset', { channel: 'chat' });
    if (second === 50) await demo.post('trouble/listen', { channel: 'bulk', count: 5 });
    // Fewer rows make a smaller file.
    if (second === WARM_UP - 6) await page.getByRole('button', { name: 'Clear' }).click();
    if (second === WARM_UP - 14) await demo.post('trouble/stall', { channel: 'bulk' });
    if (second === WARM_UP - 13) await demo.post('trouble/flood', { channel: 'bulk' });
    if (second === WARM_UP - 2) await demo.post('trouble/stall', { channel: 'bulk' });
    if (second === WARM_UP - 1) await demo.post('trouble/flood', { channel: 'bulk' });
  }
  await shoot(page, 'overview');
  await write(page);
  await shoot(page, 'channel');
  demo.end();
}

/** Two nodes, of which the first is looked at. */
async function shootNodes() {
  const redis = await startRedis();
  const REDIS = `redis://127.0.0.1:${REDIS_PORT}`;
  const [demo, other] = await Promise.all(['3000', '3001'].map((PORT) => startDemo({ PORT, REDIS })));
  const page = await visit(demo);
  await visit(other);
  for (const each of [demo, other]) await each.post('create', { name: 'news' });
  await page.getByLabel('Listen to news').check();
  await demo.post('trouble/listen', { channel: 'chat', count: 10 });
  for (let second = 0; second < WARM_UP; second += 1) {
    await delay(1000);
    await talk(second % 8 === 0 ? demo : other, second);
    if (second === 20) await other.post('trouble/listen', { channel: 'chat', count: 14 });
    if (second === 31) await other.post('trouble/listen', { channel: 'news', count: 25 });
    if (second === 60) await cut(REDIS);
    if (second === 65) await demo.post('trouble/reset', { channel: 'chat' });
    if (second === WARM_UP - 6) await page.getByRole('button', { name: 'Clear' }).click();
  }
  await shoot(page, 'nodes');
  await write(page);
  await shoot(page, 'nodes-channel');
  for (const each of [demo, other, redis]) each.end();
}

/** Says something now and then. */
async function talk(demo, second) {
  const text = TEXTS[(second / 4) % TEXTS.length];
  if (second % 4 === 0) await demo.post('write/chat', { data: { text }, event: 'said' });
  if (second % 7 === 0)
    await demo.post('write/news', { data: `Bulletin ${second / 7 + 1}`, event: 'headline' });
}

async function write(page) {
  await page.setViewportSize(SIZES.wide);
  await page.getByRole('link', { name: 'chat', exact: true }).click();
  await page.getByLabel('Event name').fill('said');
  await page.getByLabel('JSON').check();
  await page.getByLabel('Data').fill('{ "author": "Ada", "text": "Good night" }');
  await page.keyboard.press('Control+Enter');
  await page.locator('#outcome:is([data-status="success"], [data-status="failure"])').waitFor();
}

async function shoot(page, view) {
  for (const [size, viewport] of Object.entries(SIZES)) {
    for (const colorScheme of ['light', 'dark']) {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme });
      // What does not fit is shown from the part on that matters.
      const top = page.locator(view === 'nodes-channel' && size === 'narrow' ? '.writing' : 'body');
      await top.evaluate((element) => element.scrollIntoView());
      // The charts are drawn anew before the next frame.
      await page.evaluate(
        () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))),
      );
      const file = join(FOLDER, `${view}-${colorScheme}-${size}.png`);
      await page.screenshot({ path: file, fullPage: size === 'wide', animations: 'disabled', caret: 'hide' });
      console.log(file);
    }
  }
}

async function visit({ url }) {
  const context = await browser.newContext({
    locale: 'en-GB',
    viewport: SIZES.wide,
    reducedMotion: 'reduce',
  });
  const page = await context.newPage();
  await page.goto(url);
  await page.locator('#channels tr').first().waitFor();
  return page;
}

/** A server that ends with this script, once it has said what tells that it is ready. */
async function serve(command, args, options, isReady) {
  const server = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'inherit'] });
  const end = () => server.kill('SIGKILL');
  process.on('exit', end);
  let said = '';
  while (!isReady.test(said)) said += (await once(server.stdout.setEncoding('utf8'), 'data'))[0];
  return { end, said };
}

async function startDemo(settings) {
  const env = { ...process.env, FILE: 'CHANGELOG.md', PORT: '0', ...settings };
  const { end, said } = await serve(
    process.execPath,
    ['--import', 'tsx', 'demo/server.ts'],
    { env },
    /http:\S+/,
  );
  const [url] = /http:\S+/.exec(said);
  return { url, end, post: (what, body) => post(new URL(what, url), body) };
}

async function startRedis() {
  const { path, env } = findRedis();
  const args = ['--port', String(REDIS_PORT), '--save', '', '--dir', tmpdir()];
  return serve(path, args, { env }, /Ready to accept connections/);
}

/** Closes the connections of the nodes. */
async function cut(url) {
  const client = await createClient({ url }).connect();
  await client.sendCommand(['CLIENT', 'KILL', 'SKIPME', 'yes', 'TYPE', 'pubsub']);
  client.destroy();
}

async function post(url, body) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
}
