import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { expect } from 'chai';
import { Events } from '../lib/core/events.js';
import { type CometDiagnostics, type CometEvents, comet, InvalidOptionError } from '../lib/index.js';
import { EventClient, told } from './support/client.js';
import { run } from './support/process.js';
import { cleanup, hub } from './support/server.js';
import { room, stalled } from './support/stalled.js';

describe('on()', () => {
  it('tells of a stream and its writes, in order', async () => {
    const { push, server } = await hub();
    const heard: [name: string, event: unknown][] = [];
    const names = ['create', 'join', 'write', 'outcome', 'end', 'leave'] as const;
    for (const name of names) push.on(name, (event) => heard.push([name, event]));

    const news = push.channels.create({ name: 'news' });
    const { opening } = await EventClient.open(`${server.url}/news`);
    const outcome = await news.send('x', { event: 'said' });
    const left = told((on) => push.on('leave', on));
    news.end();
    await left;

    const { epoch } = push.inspect();
    const { listener } = opening;
    const position = `${epoch}-1`;
    const frame = `id: ${position}@news\nevent: said\ndata: x\n\n`;
    const [created, joined, wrote, settled, ended, gone] = heard;
    expect(heard).to.have.length(6);
    expect(created).to.deep.equal(['create', { channel: 'news' }]);
    const channels = ['news'];
    const start = { listener, channels, position: `${epoch}-0`, recovered: true, transport: 'socket' };
    expect(joined).to.deep.equal(['join', start]);
    const written = { channel: 'news', position, event: 'said', bytes: frame.length, listeners: 1 };
    expect(wrote).to.deep.equal(['write', written]);
    expect(settled?.[0]).to.equal('outcome');
    expect(settled?.[1]).to.deep.include({ channel: 'news', position, outcome });
    expect(settled?.[1]).to.have.property('elapsed').that.is.at.least(0);
    expect(ended).to.deep.equal(['end', { channel: 'news' }]);
    expect(gone).to.deep.equal(['leave', { listener, channels, reason: 'ended' }]);
  });

  it('is turned off by what it returned, one handler at a time', async () => {
    const push = comet();
    const heard: number[] = [];
    const handler = () => heard.push(heard.length);
    const off = push.on('create', handler);
    push.on('create', handler);
    off();
    off();
    push.channels.create();
    await Promise.resolve();
    expect(heard).to.deep.equal([0]);
  });

  it('never calls a handler inside the write that it hears of', async () => {
    const push = comet();
    const news = push.channels.create({ name: 'news' });
    let inside = true;
    const handled = told((on) =>
      push.on('write', (event) => {
        expect(inside).to.equal(false);
        on(event);
      }),
    );
    news.write('x');
    inside = false;
    await handled;
  });

  it('tells each handler, also after one that throws; the error goes to error', async () => {
    const push = comet();
    push.on('create', () => {
      throw new Error('a handler of the user');
    });
    const second = told((on) => push.on('create', on));
    const error = told((on) => push.on('error', on));
    push.channels.create({ name: 'news' });
    expect(await second).to.deep.equal({ channel: 'news' });
    expect(await error).to.have.property('message', 'a handler of the user');
  });

  it('warns of an error that nobody listens for', async () => {
    const { code, stderr } = await run(`
      import { comet } from './lib/index.ts';
      const push = comet();
      push.on('create', () => {
        throw new Error('nobody listens');
      });
      push.channels.create();
    `);
    expect(code).to.equal(0);
    expect(stderr)
      .to.include('CometWarning: nobody listens')
      .and.to.match(/^Error: nobody listens\n {4}at /m);
  });

  it('tells of a handler whose promise rejects', async () => {
    const push = comet();
    const error = told((on) => push.on('error', on));
    push.on('create', async () => {
      throw new Error('later');
    });
    push.channels.create();
    expect(await error).to.have.property('message', 'later');
  });

  it('calls no handler that was turned off, though the event came before', async () => {
    const push = comet();
    const off = push.on('create', () => expect.fail('it was turned off'));
    const other = told((on) => push.on('create', on));
    push.channels.create();
    off();
    await other;
  });

  it('refuses a name that is none, and a handler that is no function', () => {
    const push = comet();
    expect(() => push.on('wirte' as never, () => {})).to.throw(InvalidOptionError, 'write');
    expect(() => push.on('write', 5 as never)).to.throw(InvalidOptionError, 'function');
  });
});

describe('A client that comes back', () => {
  /** What a hub tells of each of them, once they have joined. */
  async function returned(cursors: readonly string[]): Promise<CometEvents['replay'][]> {
    const { push, server } = await hub({ rewind: 1, log: { frames: 3 } });
    const replays: CometEvents['replay'][] = [];
    push.on('replay', (event) => replays.push(event));
    const news = push.channels.create({ name: 'news' });
    const chat = push.channels.create({ name: 'chat' });
    for (const data of ['1', '2', '3', '4']) news.write(data);
    chat.write('5');
    for (const cursor of cursors) {
      const { epoch } = push.inspect();
      const header = cursor === '' ? {} : { 'Last-Event-ID': cursor.replace('{epoch}', epoch) };
      const url = `${server.url}/?chan_id=news&chan_id=chat`;
      const { opening } = await EventClient.open(url, header);
      const replay = replays.find(({ listener }) => listener === opening.listener);
      if (replay !== undefined) expect(replay).to.include({ recovered: opening.recovered });
    }
    for (const { channels } of replays) expect(channels).to.deep.equal(['news', 'chat']);
    return replays;
  }

  it('is told of, with the frames that wait for it on all its channels', async () => {
    const replays = await returned(['{epoch}-1', '{epoch}-3@news', '{epoch}-5']);
    expect(replays.map(({ frames, recovered }) => [frames, recovered])).to.deep.equal([
      [4, true],
      [2, true],
      [0, true],
    ]);
  });

  it('after a gap has what rewind gives a newcomer', async () => {
    const replays = await returned(['{epoch}-0', 'nonsense']);
    expect(replays.map(({ frames, recovered }) => [frames, recovered])).to.deep.equal([
      [2, false],
      [2, false],
    ]);
  });

  it('is none that comes for the first time', async () => {
    expect(await returned([''])).to.deep.equal([]);
  });
});

describe('What nobody listens for', () => {
  /** Everything that a hub tells of in the course of its work. */
  async function everything(): Promise<void> {
    const { push, server, news, flood } = await stalled(room(2));
    const { epoch } = push.inspect();
    await EventClient.open(`${server.url}/news`, { 'Last-Event-ID': `${epoch}-1` });
    await fetch(`${server.url}/nothing`, { headers: { Connection: 'close' } });
    await Promise.all([1, 2, 3].map((index) => news.send(`${index}`)));
    expect(await flood, 'an overrun').to.deep.include({ reasons: { overrun: 1 } });
    news.write('nobody asks');
    news.end();
    while (push.inspect().listeners > 0) await new Promise(setImmediate);
  }

  it('is not even put together', async () => {
    const told = new Set<string>();
    const unheard: string[] = [];
    const { emit } = Events.prototype;
    Events.prototype.emit = function (this: Events, name, event) {
      if (this.has(name)) told.add(name);
      else unheard.push(name);
      emit.call(this, name, event as never);
    };
    cleanup(() => {
      Events.prototype.emit = emit;
    });
    await everything();
    expect(unheard).to.deep.equal([]);

    const names = [
      'create',
      'join',
      'replay',
      'refuse',
      'write',
      'outcome',
      'overrun',
      'leave',
      'end',
    ] as const;
    for (const name of names) {
      const subscriber = () => {};
      subscribe(`express-comet:${name}`, subscriber);
      cleanup(() => {
        unsubscribe(`express-comet:${name}`, subscriber);
      });
    }
    await everything();
    expect([...told], 'it would have been').to.have.members(names);
  });
});

describe('node:diagnostics_channel', () => {
  it('is told what on() tells', async () => {
    const push = comet();
    const heard = new Promise((resolve) => {
      const subscriber = (message: unknown) => resolve(message);
      subscribe('express-comet:create', subscriber);
      cleanup(() => {
        unsubscribe('express-comet:create', subscriber);
      });
    });
    push.channels.create({ name: 'news' });
    expect(await heard).to.deep.equal({ channel: 'news' });
  });

  it('has types for whoever subscribes', async () => {
    const { push, server } = await hub();
    const heard = new Promise<CometDiagnostics['express-comet:replay']>((resolve) => {
      const name = 'express-comet:replay' satisfies keyof CometDiagnostics;
      const subscriber = (message: unknown) => resolve(message as CometDiagnostics[typeof name]);
      subscribe(name, subscriber);
      cleanup(() => {
        unsubscribe(name, subscriber);
      });
    });
    const news = push.channels.create({ name: 'news' });
    news.write('missed');
    const { opening } = await EventClient.open(`${server.url}/news`, {
      'Last-Event-ID': `${push.inspect().epoch}-0`,
    });
    const { listener, channels, frames, recovered } = await heard;
    expect({ listener, channels, frames, recovered }).to.deep.equal({
      listener: opening.listener,
      channels: ['news'],
      frames: 1,
      recovered: true,
    });
  });
});
