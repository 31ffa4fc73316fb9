import { spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import {
  type EventSourceMessage,
  type FetchEventSourceInit,
  fetchEventSource,
} from '@microsoft/fetch-event-source';
import { expect } from 'chai';
import { EventSource } from 'eventsource';
import type { Comet, CometEvents, CometOptions } from '../lib/index.js';
import { snippet, withoutTypes } from './docs/snippet.js';
import { told } from './support/client.js';
import { cleanup, hub, TestServer } from './support/server.js';
import { Text } from './support/text.js';

const nextJoin = (push: Comet) => told<CometEvents['join']>((handler) => push.on('join', handler));
const nextLeave = (push: Comet) => told<CometEvents['leave']>((handler) => push.on('leave', handler));

async function house(options: CometOptions = {}) {
  const { push, server } = await hub({ retry: [5, 10], ...options });
  return { push, server, news: push.channels.create({ name: 'news' }) };
}

describe('The EventSource of npm', () => {
  /** Its messages, and the ids that stood with them. */
  function listen(url: string, names = ['message']) {
    const source = new EventSource(url);
    cleanup(() => source.close());
    const heard: string[] = [];
    const ids: string[] = [];
    for (const name of names) {
      source.addEventListener(name, ({ data, lastEventId }) => {
        heard.push(data);
        ids.push(lastEventId);
      });
    }
    return {
      source,
      heard,
      ids,
      until: async (count: number) => {
        while (heard.length < count) await once(source, names[0] ?? 'message');
      },
    };
  }

  it('receives what is written, each message once', async () => {
    const { push, server, news } = await house();
    const joined = nextJoin(push);
    const client = listen(`${server.url}/news`);
    await joined;
    const data = ['first light', '', ' a space before', 'two\nlines', '\u00fc\u{1f30d}'];
    for (const line of data) news.write(line);
    await client.until(data.length);
    expect(client.heard).to.deep.equal(data);
  });

  it('tells the channel of an event by its id, on a shared stream', async () => {
    const { push, server, news } = await house();
    const odd = push.channels.create({ name: 'a b@c/d' });
    const joined = nextJoin(push);
    const client = listen(`${server.url}/news?chan_id=${encodeURIComponent(odd.id)}`);
    await joined;
    odd.write('odd');
    news.write('news');
    await client.until(2);
    const channels = client.ids.map((id) => decodeURIComponent(id.slice(id.indexOf('@') + 1)));
    expect(channels).to.deep.equal([odd.id, 'news']);
  });

  it('hears events by their names', async () => {
    const { push, server, news } = await house();
    const joined = nextJoin(push);
    const client = listen(`${server.url}/news`, ['said']);
    await joined;
    news.write('for others');
    news.write('hello', { event: 'said' });
    await client.until(1);
    expect(client.heard).to.deep.equal(['hello']);
  });

  it('takes no heartbeat for a message', async () => {
    const { push, server, news } = await house({ heartbeat: 10, timeout: 100 });
    const joined = nextJoin(push);
    const client = listen(`${server.url}/news`);
    await joined;
    await nextLeave(push);
    news.write('the only one');
    await client.until(1);
    expect(client.heard).to.deep.equal(['the only one']);
  });

  it('comes back by itself after the server closed its stream, and misses nothing', async () => {
    const { push, server, news } = await house();
    let joined = nextJoin(push);
    const client = listen(`${server.url}/news`);
    await joined;
    const expected: string[] = [];
    const write = (data: string) => {
      expected.push(data);
      news.write(data);
    };
    for (let round = 1; round <= 5; round += 1) {
      write(`${round} while it listens`);
      const left = nextLeave(push);
      joined = nextJoin(push);
      push.setTimeout(null, { reset: true });
      await left;
      write(`${round} while it is away`);
      expect(await joined).to.include({ recovered: true });
      write(`${round} when it is back`);
    }
    await client.until(expected.length);
    expect(client.heard).to.deep.equal(expected);
  });

  it('comes back where it stood, although it had heard nothing but the open event', async () => {
    const { push, server, news } = await house();
    const client = listen(`${server.url}/news`, ['message', 'comet:open']);
    await once(client.source, 'comet:open');
    const left = nextLeave(push);
    push.setTimeout(null, { reset: true });
    await left;
    news.write('while it is away');
    await client.until(3);
    expect(JSON.parse(client.heard[1] ?? '')).to.include({ recovered: true });
    expect(client.heard[2]).to.equal('while it is away');
  });

  it('comes back after deactivate, as soon as the hub is activated', async () => {
    const { push, server, news } = await house();
    const joined = nextJoin(push);
    const client = listen(`${server.url}/news`);
    await joined;
    const left = nextLeave(push);
    push.deactivate();
    push.activate();
    await left;
    news.write('again');
    await client.until(1);
    expect(client.heard).to.deep.equal(['again']);
  });

  it('stops when its channel has ended', async () => {
    const { push, server, news } = await house();
    const joined = nextJoin(push);
    const client = listen(`${server.url}/news`, ['comet:end']);
    await joined;
    const refused = told<CometEvents['refuse']>((handler) => push.on('refuse', handler));
    news.end();
    await client.until(1);
    expect(client.heard).to.deep.equal(['{"channel":"news"}']);
    expect(await refused).to.include({ status: 204, code: 'ENDED' });
    while (client.source.readyState !== EventSource.CLOSED) await once(client.source, 'error');
  });
});

describe('@microsoft/fetch-event-source', () => {
  /** Listens as on a page, and counts its messages. */
  function listen(url: string, options: FetchEventSourceInit = {}) {
    const page = { setTimeout, clearTimeout, fetch };
    const visible = { hidden: false, addEventListener: () => {}, removeEventListener: () => {} };
    Object.assign(globalThis, { window: page, document: visible });
    const gone = new AbortController();
    const heard: string[] = [];
    const telling = new EventEmitter();
    const onmessage = ({ event, data }: EventSourceMessage) => {
      if (event === '') heard.push(data);
      telling.emit('message');
    };
    const done = fetchEventSource(url, { signal: gone.signal, onmessage, ...options });
    done.catch(() => {});
    cleanup(async () => {
      gone.abort();
      await done.catch(() => {});
      Reflect.deleteProperty(globalThis, 'window');
      Reflect.deleteProperty(globalThis, 'document');
    });
    return {
      heard,
      done,
      until: async (count: number) => {
        while (heard.length < count) await once(telling, 'message');
      },
    };
  }

  it('stops at an orderly end, without an error', async () => {
    const { push, server, news } = await house();
    const joined = nextJoin(push);
    const client = listen(`${server.url}/news`);
    await joined;
    push.setTimeout(null, { reset: true });
    await client.done;
    expect(news.listeners).to.equal(0);
  });

  it('comes back and misses nothing where onclose throws', async () => {
    const { push, server, news } = await house({ heartbeat: 10 });
    let joined = nextJoin(push);
    const onclose = () => {
      throw new Error('The stream has ended.');
    };
    const client = listen(`${server.url}/news`, { onclose });
    const expected: string[] = [];
    for (let round = 1; round <= 3; round += 1) {
      await joined;
      news.write(`${round} while it listens`);
      const left = nextLeave(push);
      joined = nextJoin(push);
      push.setTimeout(null, { reset: true });
      await left;
      news.write(`${round} while it is away`);
      expected.push(`${round} while it listens`, `${round} while it is away`);
    }
    await client.until(expected.length);
    expect(client.heard).to.deep.equal(expected);
  });

  it('comes back for ever after a refusal where onerror does not throw', async () => {
    const { push, server } = await house();
    const refused = () => told<CometEvents['refuse']>((handler) => push.on('refuse', handler));
    let next = refused();
    listen(`${server.url}/gone`, { onerror: () => 1 });
    for (let time = 1; time <= 3; time += 1) {
      expect(await next).to.include({ status: 404 });
      next = refused();
    }
  });
});

describe('curl -N', () => {
  /** Follows a URL with curl. */
  function curl(...args: string[]) {
    const child = spawn('curl', ['--silent', '--show-error', '-N', ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    cleanup(() => void child.kill('SIGKILL'));
    const exit = new Promise<number | null>((resolve, reject) => {
      child.on('error', (cause) => reject(new Error('This test needs curl: install it.', { cause })));
      child.on('close', resolve);
    });
    exit.catch(() => {});
    return { child, exit, output: new Text(child.stdout) };
  }

  it('follows a stream until its channel ends', async () => {
    const { push, server, news } = await house();
    const joined = nextJoin(push);
    const { exit, output } = curl(`${server.url}/news`);
    await Promise.race([joined, exit]);
    for (const data of ['first light', 'second light']) {
      expect((await news.send(data)).status).to.equal('success');
      expect(await output.until(`data: ${data}\n\n`)).to.equal(true);
    }
    news.end();
    expect(await exit).to.equal(0);
    expect(output.text).to.match(/^:ok\nretry: \d+\nid: .+\nevent: comet:open\ndata: .+\n\n/);
    expect(output.text).to.match(/\n\nid: .+-3@news\nevent: comet:end\ndata: {"channel":"news"}\n\n$/);
  });

  it('is gone when it is killed, and the outcome of what comes then knows it', async () => {
    const { push, server, news } = await house();
    const joined = nextJoin(push);
    const { child, exit, output } = curl(`${server.url}/news`);
    await Promise.race([joined, exit]);
    expect(await output.until('comet:open')).to.equal(true);
    const left = nextLeave(push);
    child.kill('SIGKILL');
    await left;
    expect(await news.send('nobody')).to.include({ listeners: 0, status: 'success' });
  });

  it('comes back where it is told to', async () => {
    const { push, server, news } = await house();
    for (const data of ['1', '2', '3']) news.write(data);
    const { epoch } = push.inspect();
    const { exit, output } = curl('-H', `Last-Event-ID: ${epoch}-1@news`, `${server.url}/news`);
    await Promise.race([output.until('data: 3\n\n'), exit]);
    news.end();
    expect(await exit).to.equal(0);
    expect(output.text).to.match(
      /\ndata: .+"recovered":true,"gaps":\[\]}\n\nid: .+\ndata: 2\n\nid: .+\ndata: 3\n\n/,
    );
  });
});

describe('The client of docs/wire.md', () => {
  type Listen = (url: string, on: Record<string, (...values: unknown[]) => void>) => Promise<number>;

  let listen: Listen;

  before(async function () {
    // The compiler takes a while.
    this.timeout(20_000);
    const code = withoutTypes(snippet('docs/wire.md', 'interface Handlers'));
    ({ listen } = await import(`data:text/javascript,${encodeURIComponent(code)}`));
  });

  it('reads a stream in pieces of one byte', async () => {
    const { push, server } = await house({ rewind: 9 });
    const news = push.channels.create({ name: 'röm' });
    const data = ['', 'two\nlines\n', ' a: space', 'zwölf 🌍'];
    for (const each of data) news.write(each, { event: 'größe' });
    news.end();
    const pieces = await TestServer.listen(async ({ url, headers }, response) => {
      const answer = await fetch(server.url + url, { headers: headers as Record<string, string> });
      response.writeHead(answer.status);
      for await (const bytes of answer.body ?? []) {
        for (const byte of bytes) {
          response.write(Buffer.of(byte));
          // The client reads it before the next one is there.
          await setImmediate();
        }
      }
      response.end();
    });
    const heard: unknown[] = [];
    const status = await listen(`${pieces.url}/${encodeURIComponent(news.id)}`, {
      event: (event) => heard.push(event),
      channels: (channels, waiting) => heard.push({ channels, waiting }),
      gap: (channels) => heard.push({ gap: channels }),
      end: (channel) => heard.push({ end: channel }),
    });
    expect(heard).to.deep.equal([
      { channels: ['röm'], waiting: [] },
      ...data.map((each) => ({ type: 'größe', channel: 'röm', data: each })),
      { end: 'röm' },
    ]);
    expect(status).to.equal(204);
  });

  it('stops where it is told that its channels are gone, or that it may not listen', async () => {
    const { push, server, news } = await house();
    const on = { event: () => {}, channels: () => {}, gap: () => {}, end: () => {} };
    const joined = nextJoin(push);
    const stopped = listen(`${server.url}/news`, on);
    await joined;
    push.on('leave', () => {
      news.write('missed');
      news.end({ linger: 0 });
    });
    server.socket.destroy();
    expect(await stopped).to.equal(404);

    let status = 0;
    const refusing = await TestServer.listen((_request, response) => void response.writeHead(status).end());
    for (status of [400, 401, 403, 405, 406]) expect(await listen(refusing.url, on)).to.equal(status);
  });
});
