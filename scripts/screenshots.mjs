// docs/screenshots/: both views of the demo, light and dark, wide and narrow. Needs a browser: `npm test` provides one.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { FLAGS, findBrowser } from './browser.mjs';

process.chdir(join(import.meta.dirname, '..'));

const FOLDER = 'docs/screenshots';
const SIZES = { wide: { width: 1600, height: 1000 }, narrow: { width: 360, height: 780 } };
// Seconds of charts.
const WARM_UP = 90;

mkdirSync(FOLDER, { recursive: true });
const { path, env } = findBrowser();
const server = spawn(process.execPath, ['--import', 'tsx', 'demo/server.ts'], {
  env: { ...process.env, PORT: '0', FILE: 'CHANGELOG.md' },
  stdio: ['ignore', 'pipe', 'inherit'],
});
process.on('exit', () => server.kill('SIGKILL'));
const [line] = await once(server.stdout.setEncoding('utf8'), 'data');
const [url] = /http:\S+/.exec(line);

const browser = await chromium.launch({ executablePath: path, env, args: [...FLAGS] });
const context = await browser.newContext({ locale: 'en-GB', viewport: SIZES.wide, reducedMotion: 'reduce' });
const page = await context.newPage();
await page.goto(url);
await page.locator('#channels tr').first().waitFor();
for (const name of ['news', 'bulk']) await post('create', { name });
await page.getByLabel('Listen to news').check();
await prepare();

for (const view of ['overview', 'channel']) {
  if (view === 'channel') {
    await page.getByRole('link', { name: 'chat', exact: true }).click();
    await page.getByLabel('Event name').fill('said');
    await page.getByLabel('JSON').check();
    await page.getByLabel('Data').fill('{ "author": "Ada", "text": "Good night" }');
    await page.keyboard.press('Control+Enter');
    await page.locator('#outcome:is([data-status="success"], [data-status="failure"])').waitFor();
  }
  for (const [size, viewport] of Object.entries(SIZES)) {
    for (const colorScheme of ['light', 'dark']) {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme });
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

await browser.close();
server.kill();

/** Lets the demo have a little of everything to show. */
async function prepare() {
  console.log(`the demo runs for ${WARM_UP} s, so that its charts have something to show`);
  await post('trouble/listen', { channel: 'chat', count: 10 });
  const texts = [
    'Good morning',
    'Is anybody here?',
    'Yes, twelve of us',
    'The log holds it all',
    'See you at four',
  ];
  for (let second = 0; second < WARM_UP; second += 1) {
    await page.waitForTimeout(1000);
    if (second % 4 === 0)
      await post('write/chat', { data: { text: texts[(second / 4) % texts.length] }, event: 'said' });
    if (second % 7 === 0) await post('write/news', { data: `Bulletin ${second / 7 + 1}`, event: 'headline' });
    if (second === 30) await post('trouble/listen', { channel: 'news', count: 20 });
    if (second === 40) await post('trouble/reset', { channel: 'chat' });
    if (second === 50) await post('trouble/listen', { channel: 'bulk', count: 5 });
    // Fewer rows make a smaller file.
    if (second === WARM_UP - 6) await page.getByRole('button', { name: 'Clear' }).click();
    if (second === WARM_UP - 14) await post('trouble/stall', { channel: 'bulk' });
    if (second === WARM_UP - 13) await post('trouble/flood', { channel: 'bulk' });
    if (second === WARM_UP - 2) await post('trouble/stall', { channel: 'bulk' });
    if (second === WARM_UP - 1) await post('trouble/flood', { channel: 'bulk' });
  }
}

async function post(what, body) {
  const response = await fetch(new URL(what, url), {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${what}: ${response.status} ${await response.text()}`);
}
