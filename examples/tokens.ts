// What a language model says, token by token, to whoever has asked: `npx tsx examples/tokens.ts`, then open the page that
// it prints. PORT is 3000 by default (0 picks a free one). PAUSE is how many milliseconds the model takes for a token, GRACE
// for how many nobody may listen.
//
// - POST /answers makes a channel with an id that nobody can guess, and pipes the model's stream into it.
// - GET /answers/:id is the stream. It can be opened late, and again after a break: it begins with what was missed.
// - The channel ends with the answer, by which the page knows that this is all. For one more minute the answer can be had from
//   its beginning. Who wants it for longer stores it.
// - When nobody has listened for a while, the model is told to stop: tokens that nobody reads cost money too.

import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import express from 'express';
import { type Channel, comet } from 'express-comet';

const { PORT = '3000', PAUSE = '40', GRACE = '10000' } = process.env;
const [pause, grace] = [Number(PAUSE), Number(GRACE)];
// What the model may say at most.
const MAX_TOKENS = 10_000;

/** One piece of what a model says, as the SDKs have it. */
interface Chunk {
  readonly choices: readonly { readonly delta: { readonly content?: string } }[];
}

/** One piece of an answer. `at` counts from 0, so that a page sees where the answer begins, and whether a piece is missing. */
interface Token {
  readonly at: number;
  readonly text: string;
}

/**
 * Stands for a model. The streams of its SDKs are async iterables like this one, and take a signal:
 * `await openai.chat.completions.create({ model, messages, max_completion_tokens: MAX_TOKENS, stream: true }, { signal })`.
 */
async function* ask(prompt: string, { signal }: { signal: AbortSignal }): AsyncGenerator<Chunk> {
  const words = `You said: “${prompt}”\n\nI am no model, and count instead:`.split(/(?= )/);
  for (let number = 1; number <= 200; number += 1) words.push(` ${number}`);
  for (const content of words) {
    yield { choices: [{ delta: { content } }] };
    await delay(pause, undefined, { signal });
  }
}

async function* tokensOf(chunks: AsyncIterable<Chunk>): AsyncGenerator<Token> {
  let at = 0;
  for await (const { choices } of chunks) {
    yield { at, text: choices[0]?.delta.content ?? '' };
    at += 1;
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
  const channel = push.channels.create<Token>({
    // Who comes late, or comes back, gets the answer from its beginning. So nothing of it may go while it is under way: the
    // bounds are more than an answer can take, and without a bound by age. The default of five minutes would cut off the
    // beginning of an answer that takes longer, and whoever opens the stream then could not know.
    rewind: MAX_TOKENS + 1,
    log: { frames: MAX_TOKENS + 1, bytes: 4 * 2 ** 20, age: null },
  });
  void answer(channel, prompt);
  response.status(201).json({ id: channel.id });
});

// After the route above: this one takes GET and HEAD, and refuses every other method.
app.use('/answers', push);

app.get('/', (_request, response) => {
  response.set('Content-Security-Policy', "default-src 'self' 'unsafe-inline'").send(PAGE);
});

/** An answer that is under way. */
interface Answering {
  readonly stop: AbortController;
  /** Runs while nobody listens. */
  timer: NodeJS.Timeout;
}

const answers = new Map<string, Answering>();

async function answer(channel: Channel<Token>, prompt: string): Promise<void> {
  const { id } = channel;
  const stop = new AbortController();
  const { signal } = stop;
  const answering: Answering = { stop, timer: patience(stop) };
  answers.set(id, answering);
  try {
    // The channel ends with its source.
    const { items, complete } = await channel.pipe(tokensOf(ask(prompt, { signal })), { signal });
    // Not complete is what a server that closes leaves behind.
    console.log(`${id}: ${complete ? 'complete' : 'broken off'} after ${items} tokens`);
  } catch (error) {
    if (signal.aborted) console.log(`${id}: stopped, as nobody listens`);
    else console.error(`${id}: ${error}`);
    // Who comes later must not take this for the whole answer.
    channel.write({ at: -1, text: '' }, { event: signal.aborted ? 'stopped' : 'failed' });
    channel.end();
  }
  clearTimeout(answering.timer);
  answers.delete(id);
}

// A client that has lost its connection comes back within seconds: only one that does not is gone.
function patience(stop: AbortController): NodeJS.Timeout {
  return setTimeout(() => stop.abort(), grace);
}

push.on('join', ({ channels }) => {
  for (const id of channels) clearTimeout(answers.get(id)?.timer);
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
      const response = await fetch('/answers', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ prompt: form.prompt.value }),
      });
      const { id, error } = await response.json();
      if (!response.ok) return void (status.textContent = error);
      // A page that is loaded again shows the same answer.
      location.hash = id;
      listen(id);
    };
    function listen(id) {
      source?.close();
      source = new EventSource('/answers/' + id);
      output.textContent = '';
      status.textContent = 'Answering …';
      let next = 0;
      source.onmessage = ({ data }) => {
        const { at, text } = JSON.parse(data);
        // The first token begins the answer, also where a connection broke before it was whole.
        if (at === 0) output.textContent = '';
        else if (at !== next) output.append('[…]');
        output.append(text);
        next = at + 1;
      };
      const over = (text) => {
        source.close();
        status.textContent = text;
      };
      source.addEventListener('failed', () => over('The model has failed.'));
      source.addEventListener('stopped', () => over('The model was stopped, as nobody listened.'));
      // Without close() an EventSource would come back to a channel that has ended.
      source.addEventListener('comet:end', () => over('That is all.'));
      source.onerror = () => {
        if (source.readyState === EventSource.CLOSED) over('This answer can no longer be had.');
      };
    }
    if (location.hash !== '') listen(location.hash.slice(1));
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
