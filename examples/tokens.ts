// What a language model says, token by token, to whoever has asked: `npx tsx examples/tokens.ts`, then open the page that
// it prints. PORT is 3000 by default (0 picks a free one). PAUSE is how many milliseconds the model takes for a token, GRACE
// for how many nobody may listen.
//
// - POST /answers makes a channel with an id that nobody can guess, and pipes the model's stream into it.
// - GET /answers/:id is the stream. It can be opened late, and again after a break: it begins with what was missed.
// - The channel ends when all of it has been said to somebody, by which the page knows that this is all.
// - When nobody has listened for a while, the model is told to stop: tokens that nobody reads cost money too.

import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import express from 'express';
import { type Channel, comet, Deferred } from 'express-comet';

const { PORT = '3000', PAUSE = '40', GRACE = '10000' } = process.env;
const [pause, grace] = [Number(PAUSE), Number(GRACE)];

/** One piece of what a model says, as the SDKs have it. */
interface Chunk {
  readonly choices: readonly { readonly delta: { readonly content?: string } }[];
}

/**
 * Stands for a model. The streams of its SDKs are async iterables like this one, and take a signal:
 * `await openai.chat.completions.create({ model, messages, stream: true }, { signal })`.
 */
async function* ask(prompt: string, { signal }: { signal: AbortSignal }): AsyncGenerator<Chunk> {
  const words = `You said: “${prompt}”\n\nI am no model, and count instead:`.split(/(?= )/);
  for (let number = 1; number <= 200; number += 1) words.push(` ${number}`);
  for (const content of words) {
    yield { choices: [{ delta: { content } }] };
    await delay(pause, undefined, { signal });
  }
}

const app = express();
const push = comet();

app.post('/answers', express.json(), (request, response) => {
  const { prompt } = request.body ?? {};
  if (typeof prompt !== 'string' || prompt === '' || prompt.length > 2000) {
    response.status(400).json({ error: 'Post { "prompt": "…" }, of 2,000 characters at the most.' });
    return;
  }
  const channel = push.channels.create<Chunk>({
    // Who comes late, or comes back, gets the answer from its beginning.
    rewind: 10_000,
    log: { frames: 10_000 },
    // As JSON, in which a line end is not one of the event stream.
    encode: ({ choices }) => JSON.stringify(choices[0]?.delta.content ?? ''),
  });
  void answer(channel, prompt);
  response.status(201).json({ id: channel.id });
});

// After the route above: this one takes GET and HEAD, and refuses every other method.
app.use('/answers', push);

app.get('/', (_request, response) => {
  response.set('Content-Security-Policy', "default-src 'self' 'unsafe-inline'").send(PAGE);
});

/** An answer that is under way, or that nobody has heard to its end. */
interface Answering {
  readonly stop: AbortController;
  /** Runs while nobody listens. */
  timer: NodeJS.Timeout;
  /** Somebody listens again, or nobody has for too long. */
  decided: Deferred<void>;
}

const answers = new Map<string, Answering>();

async function answer(channel: Channel<Chunk>, prompt: string): Promise<void> {
  const { id } = channel;
  const stop = new AbortController();
  const { signal } = stop;
  const answering: Answering = { stop, timer: patience(stop), decided: new Deferred() };
  answers.set(id, answering);
  signal.addEventListener('abort', () => answering.decided.resolve());
  try {
    const { items, complete } = await channel.pipe(ask(prompt, { signal }), { signal, end: false });
    // Not complete is what a server that closes leaves behind.
    console.log(`${id}: ${complete ? 'complete' : 'broken off'} after ${items} tokens`);
    // One who has yet to come, or to come back, is to get all of it: what has ended can't be had any more.
    if (complete && channel.listeners === 0) {
      answering.decided = new Deferred();
      await answering.decided.promise;
    }
  } catch (error) {
    if (signal.aborted) console.log(`${id}: stopped, as nobody listens`);
    else {
      console.error(`${id}: ${error}`);
      channel.write({ choices: [] }, { event: 'failed' });
    }
  }
  clearTimeout(answering.timer);
  answers.delete(id);
  channel.end();
}

// A client that has lost its connection comes back within seconds: only one that does not is gone.
function patience(stop: AbortController): NodeJS.Timeout {
  return setTimeout(() => stop.abort(), grace);
}

push.on('join', ({ channels }) => {
  for (const answering of channels.map((id) => answers.get(id))) {
    clearTimeout(answering?.timer);
    answering?.decided.resolve();
  }
});

push.on('leave', ({ channels }) => {
  for (const id of channels) {
    const answering = answers.get(id);
    if (answering === undefined || push.channels.find(id)?.listeners !== 0) continue;
    clearTimeout(answering.timer);
    answering.timer = patience(answering.stop);
  }
});

const PAGE = `<!doctype html>
<html lang="en">
  <meta charset="utf-8">
  <title>Tokens</title>
  <style>pre { white-space: pre-wrap }</style>
  <form><input name="prompt" aria-label="Prompt" required maxlength="2000"> <button>Ask</button></form>
  <pre aria-live="polite"></pre>
  <p role="status"></p>
  <script>
    const [form, output, status] = ['form', 'pre', 'p'].map((name) => document.querySelector(name));
    let source;
    form.onsubmit = async (event) => {
      event.preventDefault();
      source?.close();
      const response = await fetch('/answers', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ prompt: form.prompt.value }),
      });
      if (!response.ok) return void (status.textContent = (await response.json()).error);
      const { id } = await response.json();
      output.textContent = '';
      status.textContent = 'Answering …';
      source = new EventSource('/answers/' + id);
      source.onmessage = ({ data }) => output.append(JSON.parse(data));
      source.addEventListener('failed', () => { status.textContent = 'The model has failed.'; });
      // Without this an EventSource would come back to a channel that is no longer there.
      source.addEventListener('comet:end', ({ target }) => {
        target.close();
        if (status.textContent === 'Answering …') status.textContent = 'That is all.';
      });
    };
  </script>
</html>`;

const server = app.listen(Number(PORT), '127.0.0.1');
await once(server, 'listening');
console.log(`http://localhost:${(server.address() as AddressInfo).port}`);

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, async () => {
    server.close();
    await push.close();
  });
}
