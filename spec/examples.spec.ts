import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import type { Browser } from 'playwright-core';
import { launch } from './browser/stand.js';
import { EventClient } from './support/client.js';
import { until } from './support/nodes.js';
import { cleanup } from './support/server.js';
import { Text } from './support/text.js';

const ROOT = fileURLToPath(new URL('../', import.meta.url));

/** An example as its own process, on a free port. */
async function start(file: string, env: Record<string, string>): Promise<{ url: string; output: Text }> {
  const child: ChildProcess = spawn(process.execPath, ['--import', 'tsx', `examples/${file}`], {
    cwd: ROOT,
    env: { ...process.env, ...env, PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const gone = once(child, 'close');
  cleanup(async () => {
    // In order: one that does not end by itself is a failure here.
    child.kill('SIGTERM');
    expect(await gone).to.deep.equal([0, null]);
  });
  const output = new Text(child.stdout!);
  await output.until('\n');
  return { url: output.text.trim(), output };
}

async function ask(url: string, prompt: unknown): Promise<Response> {
  return fetch(`${url}/answers`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ prompt }),
  });
}

async function answerTo(url: string, prompt: string): Promise<string> {
  const response = await ask(url, prompt);
  expect(response.status).to.equal(201);
  const { id } = (await response.json()) as { id: string };
  return id;
}

const textOf = ({ messages }: EventClient) => messages.map((data) => JSON.parse(data)).join('');

const WHOLE = /^You said: “Hello,\nworld”\n\nI am no model, and count instead: 1 2 3 .* 199 200$/s;

describe('The example of tokens', () => {
  it('gives the answer token by token, all of it to one who comes late, and then says that this is all', async () => {
    const { url, output } = await start('tokens.ts', { PAUSE: '5' });
    const id = await answerTo(url, 'Hello,\nworld');
    const client = await EventClient.open(`${url}/answers/${id}`);
    await client.heard(100);
    expect(output.text, 'while the model goes on').not.to.include('complete');
    const late = await EventClient.open(`${url}/answers/${id}`);
    for (const each of [client, late]) {
      await each.ended();
      expect(textOf(each)).to.match(WHOLE);
      expect(each.events.at(-1)?.event).to.equal('comet:end');
    }
    expect(await output.until(`${id}: complete after ${client.messages.length} tokens\n`)).to.equal(true);
    expect((await fetch(`${url}/answers/${id}`)).status).to.equal(404);
    for (const prompt of ['', 5, 'x'.repeat(2001)]) expect((await ask(url, prompt)).status).to.equal(400);
  });

  it('keeps an answer that was complete before anybody came, until somebody has', async () => {
    const { url, output } = await start('tokens.ts', { PAUSE: '0', GRACE: '2000' });
    const [heard, unheard] = [await answerTo(url, 'Hello,\nworld'), await answerTo(url, 'two')];
    for (const id of [heard, unheard]) expect(await output.until(`${id}: complete`)).to.equal(true);
    const client = await EventClient.open(`${url}/answers/${heard}`);
    await client.ended();
    expect(textOf(client)).to.match(WHOLE);
    expect(client.events.at(-1)?.event).to.equal('comet:end');
    await until(async () => (await fetch(`${url}/answers/${unheard}`, { method: 'HEAD' })).status === 404);
  });

  it('stops the model when nobody has listened for a while, and not before', async () => {
    const { url, output } = await start('tokens.ts', { PAUSE: '25', GRACE: '1000' });
    const [kept, left, unheard] = [
      await answerTo(url, 'one'),
      await answerTo(url, 'two'),
      await answerTo(url, 'three'),
    ];
    const client = await EventClient.open(`${url}/answers/${kept}`);
    const gone = await EventClient.open(`${url}/answers/${left}`);
    await gone.heard(3);
    gone.close();
    // Its connection breaks, and it comes back.
    await client.heard(3);
    client.close();
    const back = await EventClient.open(`${url}/answers/${kept}`, { 'Last-Event-ID': client.lastEventId });
    for (const id of [left, unheard])
      expect(await output.until(`${id}: stopped, as nobody listens`)).to.equal(true);
    const count = back.messages.length;
    await back.heard(count + 10);
    expect(output.text).not.to.include(`${kept}: `);
  });

  describe('in a browser', () => {
    let browser: Browser;
    before(async () => {
      browser = await launch();
    });
    after(() => browser?.close());

    it('shows the answer, and does not come back for more', async () => {
      const { url } = await start('tokens.ts', { PAUSE: '1' });
      const page = await browser.newPage();
      const faults: string[] = [];
      page.on('pageerror', (error) => faults.push(error.message));
      const requests: string[] = [];
      page.on('request', (request) => requests.push(new URL(request.url()).pathname));
      await page.goto(url);
      await page.getByLabel('Prompt').fill('Hello, world');
      await page.getByRole('button', { name: 'Ask' }).click();
      await page.getByText('That is all.').waitFor();
      expect(await page.locator('pre').textContent()).to.match(/^You said: “Hello, world”\n\n.* 199 200$/s);
      expect(requests.filter((path) => path.startsWith('/answers/'))).to.have.length(1);
      expect(faults).to.deep.equal([]);
      await page.close();
    });
  });
});
