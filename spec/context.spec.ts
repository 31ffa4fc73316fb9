import { AsyncLocalStorage } from 'node:async_hooks';
import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { type Comet, type CometEvents, type CometOptions, Deferred } from '../lib/index.js';
import { EventClient, told } from './support/client.js';
import { execute } from './support/process.js';
import { hub } from './support/server.js';

const context = new AsyncLocalStorage<string>();

/** A hub behind a middleware that gives each request a context: its name is in the query. */
async function house(options: CometOptions = {}, before: RequestListener = () => {}) {
  const made = await hub(options, (push) => (request, response) => {
    const [, user = ''] = /user=(\w+)/.exec(request.url ?? '') ?? [];
    context.run(user, () => {
      before(request, response);
      push(request, response);
    });
  });
  const news = made.push.channels.create({ name: 'news' });
  const open = (user: string, path = '/news') => EventClient.open(`${made.server.url}${path}?user=${user}`);
  return { ...made, news, open };
}

describe('The async context', () => {
  describe('of a handler of on()', () => {
    it('is that of the code which turned it on, for each event', async () => {
      const { push, server, news, open } = await house({ authorize: ({ url }) => !url?.includes('mallory') });
      const heard = new Map<keyof CometEvents, Set<string | undefined>>();
      const names = [
        'create',
        'end',
        'join',
        'leave',
        'refuse',
        'write',
        'outcome',
        'drop',
        'deactivate',
        'error',
      ];
      for (const name of names as (keyof CometEvents)[]) {
        const stores = new Set<string | undefined>();
        heard.set(name, stores);
        context.run('operator', () => push.on(name, () => void stores.add(context.getStore())));
      }
      const client = await open('alice');
      await (await fetch(`${server.url}/news?user=mallory`, { headers: { Connection: 'close' } })).text();
      await context.run('writer', async () => {
        await news.send('x');
        push.channels.create({ name: 'chat' }).end();
        push.channels.open('news', { rewind: 5 });
      });
      client.close();
      await told((on) => push.on('leave', on));
      context.run('writer', () => {
        news.end();
        news.write('late');
        push.deactivate();
      });
      await new Promise(setImmediate);
      for (const [name, stores] of heard) expect([...stores], name).to.deep.equal(['operator']);
    });
  });

  describe("of authorize, and of an outcome's resolve", () => {
    it('is that of the request, and of the write', async () => {
      const asked: unknown[] = [];
      const { push, news, open } = await house({
        authorize: async () => {
          asked.push(context.getStore());
          await new Promise(setImmediate);
          asked.push(context.getStore());
          return true;
        },
      });
      await open('alice');
      expect(asked).to.deep.equal(['alice', 'alice']);
      const resolved = new Deferred<unknown>();
      context.run('writer', () => {
        news.write('x', { outcome: { resolve: () => resolved.resolve(context.getStore()) } });
      });
      expect(await resolved.promise).to.equal('writer');
      const dropped = new Deferred<unknown>();
      news.end();
      context.run('writer', () => {
        news.write('x', { outcome: { resolve: () => dropped.resolve(context.getStore()) } });
      });
      expect(await dropped.promise).to.equal('writer');
      push.deactivate();
    });
  });

  describe('of what a hub writes on a stream', () => {
    /** The contexts in which the response of a client is written to and ended, once its stream is open. */
    async function contexts(
      options: CometOptions,
      act: (house: { push: Comet; write: (data: string) => void }) => unknown,
    ): Promise<unknown[]> {
      const seen: unknown[] = [];
      let isOpen = false;
      const { push, news, open } = await house(options, (_request, response) => {
        const { write, end } = response;
        response.write = (...args: unknown[]) => {
          if (isOpen) seen.push(context.getStore());
          return write.apply(response, args as never);
        };
        response.end = (...args: unknown[]) => {
          if (isOpen) seen.push(context.getStore());
          return end.apply(response, args as never);
        };
      });
      const first = await open('alice');
      isOpen = true;
      act({ push, write: (data) => news.write(data) });
      await first.ended();
      return seen;
    }

    it('is not that of the writer', async () => {
      const seen = await contexts({}, ({ push, write }) => {
        context.run('writer', () => write('x'));
        setImmediate(() => context.run('writer', () => push.channels.find('news')?.end()));
      });
      expect(seen).to.deep.equal([undefined, undefined, undefined]);
    });

    it('is not that of the first client, where time ends the stream', async () => {
      expect(await contexts({ timeout: 40, heartbeat: 20 }, () => {})).not.to.include('alice');
      const expires = new Date(Date.now() + 200);
      expect(await contexts({ authorize: () => ({ expires }) }, () => {})).to.deep.equal([undefined]);
    });

    for (const [what, act] of [
      [
        'dismiss()',
        (push: Comet) => push.inspect({ streams: true }).streams?.map(({ id }) => push.dismiss(id)),
      ],
      ['deactivate()', (push: Comet) => push.deactivate()],
      ['setTimeout()', (push: Comet) => push.setTimeout(1000, { reset: true })],
      ['close()', (push: Comet) => void push.close({ drain: 5 })],
    ] as const) {
      it(`is not that of the caller of ${what}`, async () => {
        const seen = await contexts({}, ({ push }) => context.run('operator', () => act(push)));
        expect(new Set(seen)).to.deep.equal(new Set([undefined]));
      });
    }
  });

  describe('of a source that is stopped', () => {
    it('is that of pipe()', async () => {
      const { news } = await house();
      const stopped = new Deferred<unknown>();
      const reading = new Deferred<void>();
      context.run('piper', () => {
        void news.pipe({
          [Symbol.asyncIterator]: () => ({
            next: () => {
              reading.resolve();
              return new Promise<IteratorResult<unknown>>(() => {});
            },
            return: async () => {
              stopped.resolve(context.getStore());
              return { done: true, value: undefined };
            },
          }),
        });
      });
      await reading.promise;
      context.run('operator', () => news.end());
      expect(await stopped.promise).to.equal('piper');
    });
  });

  describe("of the handlers of a channel's signal", () => {
    it('is not that of the code which ended the channel', async () => {
      const { news } = await house();
      const { signal } = news;
      const aborted = once(signal, 'abort').then(() => undefined);
      const seen = new Deferred<unknown>();
      signal.addEventListener('abort', () => seen.resolve(context.getStore()));
      context.run('operator', () => news.end());
      expect(await seen.promise).to.equal(undefined);
      await aborted;
    });
  });

  it('of a request, a write or a call is kept alive by nothing that outlives it', async () => {
    const { code, stdout, stderr } = await execute(process.execPath, [
      '--expose-gc',
      '--import',
      'tsx',
      fileURLToPath(new URL('support/contexts.ts', import.meta.url)),
    ]);
    expect([code, stderr]).to.deep.equal([0, '']);
    expect(JSON.parse(stdout)).to.deep.equal([]);
  });
});
