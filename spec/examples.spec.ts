import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import type { Browser } from 'playwright-core';
import { launch } from './browser/stand.js';
import { EventClient } from './support/client.js';
import { cleanup } from './support/server.js';
import { Text } from './support/text.js';

const ROOT = fileURLToPath(new URL('../', import.meta.url));

interface Example {
  readonly url: string;
  readonly output: Text;
  /** Moves its clock on by six minutes. Resolves when its hub has seen that. */
  wait(): Promise<void>;
}

/** An example as its own process, on a free port. */
async function start(file: string, env: Record<string, string>): Promise<Example> {
  const args = ['--import', 'tsx', '--import', './spec/support/clock.ts', `examples/${file}`];
  const child: ChildProcess = spawn(process.execPath, args, {
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
  return {
    url: output.text.trim(),
    output,
    wait: async () => {
      child.kill('SIGUSR2');
      await output.until('Six minutes have gone by.\n');
    },
  };
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

const textOf = ({ messages }: EventClient) => messages.map((data) => JSON.parse(data).text).join('');

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
    for (const prompt of ['', 5, 'x'.repeat(2001)]) expect((await ask(url, prompt)).status).to.equal(400);
  });

  it('gives all of it to one who reloads after more than five minutes', async () => {
    const { url, output, wait } = await start('tokens.ts', { PAUSE: '25' });
    const id = await answerTo(url, 'Hello,\nworld');
    const client = await EventClient.open(`${url}/answers/${id}`);
    await client.heard(20);
    await wait();
    await client.heard(40);
    expect(output.text, 'while the model goes on').not.to.include('complete');
    const again = await EventClient.open(`${url}/answers/${id}`);
    await again.heard(40);
    expect(textOf(again)).to.match(/^You said: “Hello,/);
    for (const each of [client, again]) {
      await each.ended();
      expect(textOf(each)).to.match(WHOLE);
    }
  });

  it('keeps an answer that was complete before anybody came, for a minute', async () => {
    const { url, output, wait } = await start('tokens.ts', { PAUSE: '0' });
    const id = await answerTo(url, 'Hello,\nworld');
    expect(await output.until(`${id}: complete`)).to.equal(true);
    let lastEventId = '';
    for (let time = 1; time <= 2; time += 1) {
      const client = await EventClient.open(`${url}/answers/${id}`);
      await client.ended();
      expect(textOf(client)).to.match(WHOLE);
      expect(client.events.map(({ event }) => event)).to.include('comet:end');
      ({ lastEventId } = client);
    }
    await wait();
    expect((await fetch(`${url}/answers/${id}`)).status).to.equal(404);
    const headers = { 'Last-Event-ID': lastEventId };
    expect((await fetch(`${url}/answers/${id}`, { headers })).status).to.equal(204);
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
    const late = await EventClient.open(`${url}/answers/${left}`);
    await late.ended();
    expect(late.events.slice(-3).map(({ event }) => event)).to.include.members(['stopped', 'comet:end']);
  });

  describe('in a browser', () => {
    let browser: Browser;
    before(async () => {
      browser = await launch();
    });
    after(() => browser?.close());

    it('shows the answer, and does not come back for more', async () => {
      const { url, wait } = await start('tokens.ts', { PAUSE: '1' });
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
      await page.reload();
      await page.getByText('That is all.').waitFor();
      expect(await page.locator('pre').textContent()).to.match(/^You said: “Hello, world”\n\n.* 199 200$/s);
      await wait();
      await page.reload();
      await page.getByText('This answer can no longer be had.').waitFor();
      expect(faults).to.deep.equal([]);
      await page.close();
    });
  });
});
