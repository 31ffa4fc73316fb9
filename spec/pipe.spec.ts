import { EventEmitter, getEventListeners, once } from 'node:events';
import { Readable } from 'node:stream';
import { ReadableStream } from 'node:stream/web';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'chai';
import {
  type Channel,
  ChannelEndedError,
  type Comet,
  type CometOptions,
  comet,
  FrameTooLargeError,
  HubClosedError,
  InvalidDataError,
  InvalidEventNameError,
  InvalidOptionError,
  InvalidSourceError,
  type LeaveReason,
  type Source,
} from '../lib/index.js';
import { EventClient, RawClient, told } from './support/client.js';
import { turns } from './support/delayed.js';
import { texts, until } from './support/nodes.js';
import { hub } from './support/server.js';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Bytes that are held, once what is not has been collected. */
function held(): number {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Items that are there at once, each a microtask later, and how many were taken. */
class Items implements AsyncIterableIterator<string> {
  taken = 0;
  /** How many times it was told to return. */
  returned = 0;
  /** After so many nothing comes any more, and that is never said. */
  silentAfter = Infinity;

  constructor(
    readonly count = Infinity,
    readonly make = (index: number): string => `item ${index}`,
  ) {}

  async next(): Promise<IteratorResult<string>> {
    if (this.taken >= this.silentAfter) await new Promise(() => {});
    if (this.taken >= this.count) return { done: true, value: undefined };
    this.taken += 1;
    return { done: false, value: this.make(this.taken - 1) };
  }

  async return(): Promise<IteratorResult<string>> {
    this.returned += 1;
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** Every kind of source, with items that are there and no end; what it throws; and whether it was stopped. */
interface Case {
  readonly source: Source<string>;
  end(): void;
  fail(error: Error): void;
  readonly isStopped: boolean;
}

const kinds: Record<string, (items: readonly string[]) => Case> = {
  'an async iterable': (items) => {
    const told = new EventEmitter();
    let over: { error?: Error } | undefined;
    const it = {
      isStopped: false,
      taken: 0,
      async next(): Promise<IteratorResult<string>> {
        if (it.taken < items.length) return { done: false, value: items[it.taken++]! };
        while (over === undefined) await once(told, 'over');
        if (over.error !== undefined) throw over.error;
        return { done: true, value: undefined };
      },
      async return(): Promise<IteratorResult<string>> {
        it.isStopped = true;
        return { done: true, value: undefined };
      },
    };
    const finish = (how: { error?: Error }) => {
      over = how;
      told.emit('over');
    };
    return {
      source: { [Symbol.asyncIterator]: () => it },
      end: () => finish({}),
      fail: (error) => finish({ error }),
      get isStopped() {
        return it.isStopped;
      },
    };
  },
  'a Readable': (items) => {
    const source = new Readable({ objectMode: true, read: () => {} });
    for (const item of items) source.push(item);
    return {
      source,
      end: () => source.push(null),
      fail: (error) => source.destroy(error),
      get isStopped() {
        return source.destroyed;
      },
    };
  },
  'a ReadableStream': (items) => {
    let stream!: { close(): void; error(error: Error): void };
    let isStopped = false;
    const source = new ReadableStream<string>({
      start: (controller) => {
        stream = controller;
        for (const item of items) controller.enqueue(item);
      },
      cancel: () => {
        isStopped = true;
      },
    });
    return {
      source,
      end: () => stream.close(),
      fail: (error) => stream.error(error),
      get isStopped() {
        return isStopped;
      },
    };
  },
};

/** A client that counts, and keeps nothing of what it reads: the numbers of the items, and whether one was out of turn. */
class Counter {
  count = 0;
  misplaced = 0;
  #rest = '';

  constructor(readonly client: RawClient) {
    client.socket.on('data', (piece) => this.#count(String(piece)));
  }

  #count(piece: string): void {
    const text = this.#rest + piece;
    const end = text.lastIndexOf('\n') + 1;
    this.#rest = text.slice(end);
    for (const [, index] of text.slice(0, end).matchAll(/^data: item (\d+)/gm)) {
      if (Number(index) !== this.count) this.misplaced += 1;
      this.count += 1;
    }
  }
}

/** Resolves when a client has read all that it was sent. */
async function finished({ socket }: RawClient): Promise<void> {
  if (!socket.readableEnded) await once(socket, 'end');
}

/** Has one client read for a while, then the next one, until the promise settles: mostly all but one are blocked. */
async function inTurns(clients: readonly RawClient[], settles: Promise<unknown>): Promise<void> {
  let isOver = false;
  void settles.finally(() => {
    isOver = true;
  });
  while (!isOver) {
    for (const client of clients) {
      client.read();
      await turns(20);
      client.stall();
    }
  }
  for (const client of clients) client.read();
}

interface Stage {
  readonly push: Comet;
  readonly news: Channel<string>;
  readonly port: number;
  readonly url: string;
  /** Why those who left did. */
  readonly left: LeaveReason[];
  /** A client that reads nothing until it is told to. */
  stalled(): Promise<RawClient>;
}

async function stage(options: CometOptions = {}): Promise<Stage> {
  const { push, port, server } = await hub(options);
  const news = push.channels.create<string>({ name: 'news' });
  const left: LeaveReason[] = [];
  push.on('leave', ({ reason }) => left.push(reason));
  const stalled = async () => {
    const { listeners } = news;
    const client = await RawClient.get(port, '/news');
    await until(() => news.listeners > listeners);
    return client;
  };
  return { push, news, port, url: `${server.url}/news`, left, stalled };
}

/** Resolves when a source is waited with: many turns of the event loop go by, and nothing is taken. */
async function waits(push: Comet, items: Items): Promise<void> {
  await until(() => push.inspect({ streams: true }).streams!.every(({ state }) => state === 'behind'));
  // What was taken before that was seen.
  await turns(5);
  const { taken } = items;
  await turns(200);
  expect(items.taken, 'taken while all were blocked').to.equal(taken);
}

async function rejection(promise: Promise<unknown>): Promise<Error> {
  return promise.then(
    () => expect.fail('it did not reject'),
    (error: Error) => error,
  );
}

describe('pipe()', () => {
  for (const [kind, make] of Object.entries(kinds)) {
    describe(`of ${kind}`, () => {
      it('writes each item, ends the channel with it, and says how many there were', async () => {
        const { news, url } = await stage();
        const client = await EventClient.open(url);
        const given = make(texts(600));
        const piped = news.pipe(given.source);
        await client.heard(600);
        expect(client.messages).to.deep.equal(texts(600));
        given.end();
        expect(await piped).to.deep.equal({ items: 600, complete: true });
        await client.ended();
        expect(client.events.at(-1)?.event).to.equal('comet:end');
      });

      it('rejects with its error, after what came before; the channel stays open', async () => {
        const { news, url } = await stage();
        const client = await EventClient.open(url);
        const given = make(['one', 'two']);
        const piped = news.pipe(given.source);
        await client.heard(2);
        const error = new Error('the source');
        given.fail(error);
        expect(await rejection(piped)).to.equal(error);
        news.write('three');
        expect(await client.heard(3)).to.deep.equal(['one', 'two', 'three']);
      });

      it('stops it when the channel ends, though it has nothing to give', async () => {
        const { news, url } = await stage();
        const client = await EventClient.open(url);
        const given = make(['one']);
        const piped = news.pipe(given.source);
        await client.heard(1);
        news.end();
        expect(await piped).to.deep.equal({ items: 1, complete: false });
        expect(given.isStopped).to.equal(true);
      });

      it('stops it when it is told to, and rejects with the reason; the channel stays open', async () => {
        const { news, url } = await stage();
        const client = await EventClient.open(url);
        const given = make(['one']);
        const controller = new AbortController();
        const piped = news.pipe(given.source, { signal: controller.signal });
        await client.heard(1);
        const reason = new Error('enough');
        controller.abort(reason);
        expect(await rejection(piped)).to.equal(reason);
        expect(given.isStopped).to.equal(true);
        expect(getEventListeners(controller.signal, 'abort')).to.deep.equal([]);
        news.write('two');
        expect(await client.heard(2)).to.deep.equal(['one', 'two']);
      });

      it('stops it where an item can not be written, and rejects; what came before has been', async () => {
        const { news, url } = await stage({ maxFrame: 200 });
        const client = await EventClient.open(url);
        const given = make(['one', 'x'.repeat(300), 'three']);
        expect(await rejection(news.pipe(given.source))).to.be.an.instanceof(FrameTooLargeError);
        expect(given.isStopped).to.equal(true);
        news.write('four');
        expect(await client.heard(2)).to.deep.equal(['one', 'four']);
      });

      it('stops it when the hub closes', async () => {
        const { push, news, url } = await stage();
        const client = await EventClient.open(url);
        const given = make(['one']);
        const piped = news.pipe(given.source);
        await client.heard(1);
        const closed = push.close();
        expect(await piped).to.deep.equal({ items: 1, complete: false });
        expect(given.isStopped).to.equal(true);
        await closed;
      });

      it('stops it where the channel has ended, or the hub is closed, or the signal aborted before', async () => {
        const push = comet();
        const [ended, open] = [push.channels.create<string>(), push.channels.create<string>()];
        ended.end();
        const [first, second, third] = [make([]), make([]), make([])];
        expect(await rejection(ended.pipe(first.source))).to.be.an.instanceof(ChannelEndedError);
        expect(
          await rejection(open.pipe(second.source, { signal: AbortSignal.abort(new Error('no')) })),
        ).to.have.property('message', 'no');
        await push.close();
        expect(await rejection(open.pipe(third.source))).to.be.an.instanceof(HubClosedError);
        expect([first, second, third].map(({ isStopped }) => isStopped)).to.deep.equal([true, true, true]);
      });
    });
  }

  it('takes an iterable too, and awaits what that gives; and stops it', async () => {
    const push = comet();
    const news = push.channels.create<string>({ rewind: 9 });
    expect(await news.pipe(['one', 'two'], { end: false })).to.deep.equal({ items: 2, complete: true });
    expect(await news.pipe(new Set(['three']), { end: false })).to.include({ items: 1 });
    let isStopped = false;
    function* endless(): Generator<string> {
      try {
        for (;;) yield 'four';
      } finally {
        isStopped = true;
      }
    }
    const piped = news.pipe(endless());
    await turns(3);
    news.end();
    expect(await piped).to.include({ complete: false });
    await turns(1);
    expect(isStopped).to.equal(true);
  });

  it('leaves the channel open, where that is wanted', async () => {
    const { news, url } = await stage();
    const client = await EventClient.open(url);
    await news.pipe(['one'], { end: false });
    await news.pipe(['two'], { end: false });
    news.write('three');
    expect(await client.heard(3)).to.deep.equal(['one', 'two', 'three']);
  });

  it('names its events, all alike or each by its item, and encodes them as write does', async () => {
    const { push, url } = await stage();
    const quotes = push.channels.create<{ symbol: string }>({ name: 'quotes' });
    const client = await EventClient.open(`${url.replace('news', 'quotes')}`);
    await quotes.pipe([{ symbol: 'A' }], { event: 'quote', end: false });
    await quotes.pipe([{ symbol: 'B' }, { symbol: '' }], { event: ({ symbol }) => symbol || undefined });
    await client.ended();
    expect(client.events.slice(1, -1).map(({ event, data }) => [event, data])).to.deep.equal([
      ['quote', '{"symbol":"A"}'],
      ['B', '{"symbol":"B"}'],
      [undefined, '{"symbol":""}'],
    ]);
  });

  it('takes only what the channel takes', () => {
    const push = comet();
    const numbers = push.channels.create<number>();
    const check = () => {
      // @ts-expect-error: the channel is one of numbers.
      void numbers.pipe(['one']);
      // @ts-expect-error: and so is what names them.
      void numbers.pipe([1], { event: (item: string) => item });
      void numbers.pipe([1], { event: (item) => item.toFixed() });
      void push.channels.create().pipe(Readable.from(['one']));
    };
    expect(check).to.be.a('function');
  });

  it('rejects where an item has no encoding, or no name, or its name throws; and takes nothing more', async () => {
    const push = comet();
    const news = push.channels.create<unknown>();
    for (const [item, event, error] of [
      [() => {}, undefined, InvalidDataError],
      ['x', () => 'comet:open', InvalidEventNameError],
      ['x', () => expect.fail('no name'), Error],
    ] as const) {
      const items = new Items(Infinity, (index) => (index === 3 ? item : 'x') as string);
      const name = event === undefined ? event : () => (items.taken === 4 ? event() : undefined);
      expect(await rejection(news.pipe(items, { event: name }))).to.be.an.instanceof(error);
      expect([items.taken, items.returned]).to.deep.equal([4, 1]);
    }
    expect(push.inspect().channels[0]).to.include({ writes: 9 });
  });

  it('refuses bytes, unless the channel says how they are encoded', async () => {
    const push = comet();
    const bytes = () => Readable.from([Buffer.from('one'), Buffer.from('two')]);
    const error = await rejection(push.channels.create().pipe(bytes()));
    expect(error)
      .to.be.an.instanceof(InvalidDataError)
      .with.property('message')
      .that.includes('TextDecoderStream');
    const hex = push.channels.create<Buffer>({ encode: (data) => data.toString('hex') });
    expect(await hex.pipe(bytes())).to.deep.equal({ items: 2, complete: true });
  });

  it('refuses what is no source, and says what is one', async () => {
    const news = comet().channels.create<unknown>();
    async function* uncalled() {
      yield 'one';
    }
    const none: unknown[] = [undefined, null, 5, 'text', {}, uncalled, Buffer.from('x'), Promise.resolve([])];
    for (const source of none) {
      const error = await rejection(news.pipe(source as never));
      expect(error)
        .to.be.an.instanceof(InvalidSourceError)
        .with.property('message')
        .that.includes('async iterable');
    }
    const locked = new ReadableStream();
    locked.getReader();
    expect(await rejection(news.pipe(locked)))
      .to.be.an.instanceof(InvalidSourceError)
      .with.property('message')
      .that.includes('tee()');
  });

  it('checks its options, and leaves the source alone then', async () => {
    const news = comet().channels.create<string>();
    const items = new Items();
    for (const [options, error] of [
      [{ ends: true }, InvalidOptionError],
      [{ end: 'no' }, InvalidOptionError],
      [{ signal: new AbortController() }, InvalidOptionError],
      [{ patience: -1 }, InvalidOptionError],
      [{ patience: Infinity }, InvalidOptionError],
      [{ event: 'comet:x' }, InvalidEventNameError],
      [{ event: 5 }, InvalidEventNameError],
      [5, InvalidOptionError],
    ] as const) {
      expect(await rejection(news.pipe(items, options as never))).to.be.an.instanceof(error);
    }
    expect([items.taken, items.returned]).to.deep.equal([0, 0]);
  });

  it('tells of a source that throws when it is stopped', async () => {
    const push = comet();
    const news = push.channels.create<string>();
    for (const stop of [
      () => {
        throw new Error('at once');
      },
      () => Promise.reject(new Error('later')),
    ]) {
      const items = new Items();
      items.return = stop;
      const error = told((on) => push.on('error', on));
      const controller = new AbortController();
      const piped = news.pipe(items, { signal: controller.signal });
      controller.abort();
      expect(await rejection(piped)).to.have.property('name', 'AbortError');
      expect((await error) as Error)
        .to.have.property('message')
        .that.matches(/at once|later/);
    }
  });

  it('is not harmed by a Readable that breaks while it waits, or when it is stopped', async () => {
    const { push, news, stalled } = await stage();
    await stalled();
    const source = new Readable({
      objectMode: true,
      read: () => void source.push('x'.repeat(10_000)),
      destroy: (_error, done) => done(new Error('broken when stopped')),
    });
    const piped = news.pipe(source);
    await until(() => push.inspect({ streams: true }).streams![0]!.state === 'behind');
    news.end();
    expect(await piped).to.include({ complete: false });

    // Nobody has ever read it.
    const unread = new Readable({
      read: () => {},
      destroy: (_error, done) => done(new Error('broken unread')),
    });
    expect(await rejection(news.pipe(unread))).to.be.an.instanceof(ChannelEndedError);
    await new Promise((closed) => unread.on('close', closed));

    const again = push.channels.create<string>({ name: 'again' });
    const broken = new Readable({ objectMode: true, read: () => void broken.push('x') });
    broken.destroy(new Error('broken before'));
    expect(await rejection(again.pipe(broken))).to.have.property('message', 'broken before');
  });

  describe('and the event loop', () => {
    it('leaves it its turns, where all items are there at once and nobody listens', async () => {
      const news = comet().channels.create<string>();
      const items = new Items(1_000_000);
      const piped = news.pipe(items);
      await new Promise((resolve) => setTimeout(resolve, 1));
      const { taken } = items;
      await turns(20);
      expect(items.taken - taken).to.be.within(20, 21 * 256);
      news.end();
      expect(await piped).to.include({ complete: false });
    });

    it('and where each takes long to make', async () => {
      const news = comet().channels.create<string>();
      let most = 0;
      let inTurn = 0;
      const items = new Items(200, (index) => {
        const over = performance.now() + 1;
        while (performance.now() < over);
        inTurn += 1;
        most = Math.max(most, inTurn);
        return String(index);
      });
      const piped = news.pipe(items);
      let isOver = false;
      void piped.then(() => {
        isOver = true;
      });
      while (!isOver) {
        await turns(1);
        inTurn = 0;
      }
      expect(most, 'items in one turn').to.be.below(8);
      expect(items.taken).to.equal(200);
    });

    it('flushes between its portions: a log of few frames loses nothing of them', async () => {
      const { push, url } = await stage();
      for (const frames of [1, 2, 7, 100]) {
        const few = push.channels.create<string>({ name: `few${frames}`, log: { frames } });
        const client = await EventClient.open(url.replace('news', few.id));
        await few.pipe(new Items(400));
        await client.ended();
        expect(client.messages, String(frames)).to.deep.equal(
          Array.from({ length: 400 }, (_, i) => `item ${i}`),
        );
      }
    });
  });

  describe('to listeners', () => {
    it('waits with a million items while the only one stalls, holds no more than before, and loses none', async function () {
      this.timeout(60_000);
      const { push, news, left, stalled } = await stage();
      const items = new Items(1_000_000, (index) => `item ${index} ${'.'.repeat(60)}`);
      const client = await stalled();
      const before = held();
      // Nobody is waited for here but by the rule that all are blocked.
      const piped = news.pipe(items, { patience: 0 });
      await waits(push, items);
      expect(items.taken).to.be.below(200_000);
      const afterOne = held() - before;

      const counter = new Counter(client);
      client.read();
      // It stalls again, in the middle.
      await until(() => counter.count > 300_000);
      client.stall();
      await waits(push, items);
      const afterTwo = held() - before;
      client.read();
      expect(await piped).to.deep.equal({ items: 1_000_000, complete: true });
      await finished(client);
      expect([counter.count, counter.misplaced, left]).to.deep.equal([1_000_000, 0, ['ended']]);
      // What is held while it waits: frames of 130 bytes, each with its Buffer, would be 300 MB, were all of them.
      for (const bytes of [afterOne, afterTwo, held() - before])
        expect(bytes / 2 ** 20, 'MiB').to.be.below(64);
    });

    it('goes on where nobody listens', async () => {
      const news = comet().channels.create<string>();
      expect(await news.pipe(new Items(10_000))).to.deep.equal({ items: 10_000, complete: true });
    });

    it('goes on when the last that stalls has left, or was closed for it', async () => {
      const { push, news, left, stalled } = await stage({ stall: 300 });
      const make = () => new Items(Infinity, (index) => `item ${index} ${'.'.repeat(2000)}`);
      const client = await stalled();
      const items = make();
      const piped = news.pipe(items);
      await waits(push, items);
      const { taken } = items;
      await client.reset();
      await until(() => items.taken > taken + 1000);

      await stalled();
      await until(() => left.length === 2);
      const then = items.taken;
      await until(() => items.taken > then + 1000);
      news.end();
      await piped;
      expect(left[1]).to.equal('stalled');
    });

    it('goes on for one that joins while the others are blocked, and has the stalled ones fall off the log', async () => {
      const { push, news, port, left, stalled } = await stage();
      const items = new Items(5000, (index) => `item ${index} ${'.'.repeat(2000)}`);
      await stalled();
      const piped = news.pipe(items, { patience: 0 });
      await waits(push, items);
      const { taken } = items;
      const client = await RawClient.get(port, '/news');
      expect(await client.until('data: item 4999 ')).to.equal(true);
      expect(await piped).to.deep.equal({ items: 5000, complete: true });
      await finished(client);
      const heard = Array.from(client.text.matchAll(/^data: item (\d+)/gm), ([, index]) => Number(index));
      expect(heard[0]).to.be.within(taken - 1, taken + 1);
      expect(heard).to.deep.equal(Array.from({ length: heard.length }, (_, index) => heard[0]! + index));
      expect(left).to.deep.equal(['overrun', 'ended']);
    });

    it('has the stalled one jump to the newest, where the channel is one for the latest', async () => {
      const { push, port } = await stage();
      const prices = push.channels.create<string>({ name: 'prices', lag: 'latest' });
      const left: LeaveReason[] = [];
      push.on('leave', ({ reason }) => left.push(reason));
      const slow = await RawClient.get(port, '/prices');
      const fast = await RawClient.get(port, '/prices');
      await until(() => prices.listeners === 2);
      const jumped = told((on) => push.on('overrun', on));
      // However patient: nobody is waited for who would jump.
      const piped = prices.pipe(new Items(5000, (index) => `item ${index} ${'.'.repeat(2000)}`), {
        patience: 30_000,
      });
      fast.read();
      expect(await jumped).to.include({ channel: 'prices', lag: 'latest' });
      expect(await piped).to.include({ complete: true });
      expect(await fast.until('comet:end')).to.equal(true);
      expect(await slow.until('comet:end')).to.equal(true);
      expect(slow.text).to.include('data: item 4999 ');
      expect(slow.text).not.to.include('data: item 4000 ');
    });

    it('waits for those that read as well as others, and are blocked now and then', async () => {
      const { push, news, left, stalled } = await stage({ log: { frames: 64, bytes: 64 * 1024 } });
      const clients = [await stalled(), await stalled(), await stalled(), await stalled()];
      const counters = clients.map((client) => new Counter(client));
      const items = new Items(8000, (index) => `item ${index} ${'.'.repeat(2000)}`);
      const piped = news.pipe(items, { patience: 20_000 });
      await waits(push, items);
      await inTurns(clients, piped);
      expect(await piped).to.deep.equal({ items: 8000, complete: true });
      for (const client of clients) await finished(client);
      expect(counters.map(({ count, misplaced }) => [count, misplaced])).to.deep.equal(
        Array(4).fill([8000, 0]),
      );
      expect(left).to.deep.equal(Array(4).fill('ended'));
    });

    it('does not wait for one that is blocked for longer than its patience', async () => {
      const { push, news, port, left, stalled } = await stage();
      await stalled();
      const items = new Items(5000, (index) => `item ${index} ${'.'.repeat(2000)}`);
      const piped = news.pipe(items, { patience: 50 });
      await waits(push, items);
      const client = await RawClient.get(port, '/news');
      expect(await client.until('data: item 4999 ')).to.equal(true);
      await piped;
      expect(left).to.deep.equal(['overrun', 'ended']);
    });

    it('shares the log among several sources', async () => {
      const { push, news, left, stalled } = await stage({ log: { frames: 64 } });
      const clients = [await stalled(), await stalled()];
      const sources = Array.from({ length: 12 }, (_, index) => {
        return new Items(400, (item) => `${index} ${item} ${'.'.repeat(4000)}`);
      });
      const piped = Promise.all(sources.map((each) => news.pipe(each, { end: false, patience: 20_000 })));
      await waits(push, sources[0]!);
      await inTurns(clients, piped);
      expect(await piped).to.deep.equal(Array(12).fill({ items: 400, complete: true }));
      news.end();
      for (const client of clients) {
        await finished(client);
        const heard = Array.from(client.text.matchAll(/^data: (\d+) (\d+)/gm), ([, ...numbers]) => numbers);
        for (const index of sources.keys()) {
          const own = heard.filter(([source]) => source === String(index)).map(([, item]) => Number(item));
          expect(own).to.deep.equal([...Array(400).keys()]);
        }
      }
      expect(left).to.deep.equal(['ended', 'ended']);
    });
  });
});
