import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { expect } from 'chai';
import { comet, InvalidOptionError } from '../lib/index.js';
import { EventClient, told } from './support/client.js';
import { run } from './support/process.js';
import { cleanup, hub } from './support/server.js';

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
});
