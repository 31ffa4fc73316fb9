import { expect } from 'chai';
import { EventSource } from 'eventsource';
import type { CometEvents, CometOptions } from '../lib/index.js';
import { EventClient, RawClient, told } from './support/client.js';
import { delivered } from './support/outcomes.js';
import { cleanup, hub } from './support/server.js';
import { ended } from './support/wire.js';

// More than the buffers of a connection take, here 3.6 MiB: it blocks a client that does not read.
const FLOOD = 'x'.repeat(12 * 2 ** 20);
const ROOM: CometOptions = { maxFrame: 16 * 2 ** 20, log: { bytes: 64 * 2 ** 20 } };

describe('dismiss', () => {
  it('says whether there is such a listener', async () => {
    const { push, server } = await hub();
    push.channels.create({ name: 'news' });
    const client = await EventClient.open(`${server.url}/news`);
    expect(push.dismiss('nobody')).to.equal(false);
    expect(push.dismiss(client.opening.listener)).to.equal(true);
    await client.ended();
    expect(push.dismiss(client.opening.listener)).to.equal(false);
  });

  it('delivers first what was written in the same turn', async () => {
    const { push, server } = await hub();
    const news = push.channels.create({ name: 'news' });
    const client = await EventClient.open(`${server.url}/news`);
    const outcome = news.send('the last');
    push.dismiss(client.opening.listener);
    const late = news.send('too late');
    await client.ended();
    expect(client.messages).to.deep.equal(['the last']);
    expect(await outcome).to.deep.equal(delivered(1));
    expect(await late).to.deep.equal(delivered(0));
  });

  it('has one that is blocked read to the end, once it reads', async () => {
    const { push, port } = await hub(ROOM);
    const news = push.channels.create({ name: 'news' });
    const joined = told<CometEvents['join']>((handler) => push.on('join', handler));
    const client = await RawClient.get(port, '/news');
    const { listener } = await joined;
    const outcomes = [news.send(FLOOD), news.send('behind it')];
    await new Promise(setImmediate);
    expect(push.inspect({ streams: true }).streams?.[0]?.state).to.equal('behind');
    expect(push.dismiss(listener)).to.equal(true);
    expect(push.dismiss(listener)).to.equal(true);
    await ended(client);
    expect(client.text.endsWith('data: behind it\n\n\r\n0\r\n\r\n')).to.equal(true);
    expect(await Promise.all(outcomes)).to.deep.equal([delivered(1), delivered(1)]);
  });

  it('fails as closed what a blocked one never takes', async () => {
    const { push, port } = await hub({ ...ROOM, stall: 50 });
    const news = push.channels.create({ name: 'news' });
    const joined = told<CometEvents['join']>((handler) => push.on('join', handler));
    await RawClient.get(port, '/news');
    const { listener } = await joined;
    const flood = news.send(FLOOD);
    await new Promise(setImmediate);
    push.dismiss(listener);
    expect(await flood).to.deep.include({ failed: 1, reasons: { stalled: 1 } });
  });

  it('does not keep a client away: it comes back, and misses nothing', async () => {
    const { push, server } = await hub({ retry: [1, 1] });
    const news = push.channels.create({ name: 'news' });
    const source = new EventSource(`${server.url}/news`);
    cleanup(() => source.close());
    const heard: string[] = [];
    source.addEventListener('message', ({ data }) => void heard.push(data));
    const { listener } = await told<CometEvents['join']>((handler) => push.on('join', handler));
    news.write('one');
    const back = told<CometEvents['join']>((handler) => push.on('join', handler));
    push.dismiss(listener);
    news.write('two');
    expect(await back).to.deep.include({ recovered: true });
    const three = new Promise((resolve) =>
      source.addEventListener('message', ({ data }) => data === 'three' && resolve(data)),
    );
    news.write('three');
    await three;
    expect(heard).to.deep.equal(['one', 'two', 'three']);
  });
});
