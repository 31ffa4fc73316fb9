import { expect } from 'chai';
import type { Channel, Comet, CometOptions } from '../lib/index.js';
import { EventClient, RawClient, told } from './support/client.js';
import { Random } from './support/random.js';
import { hub } from './support/server.js';

const returning = (client: EventClient): Record<string, string> => ({ 'Last-Event-ID': client.lastEventId });

/** A hub with a channel, and a client that has heard its first event and left. */
async function left(
  options: CometOptions = {},
): Promise<{ push: Comet; news: Channel; url: string; client: EventClient }> {
  const { push, server } = await hub(options);
  const news = push.channels.create({ name: 'news' });
  const url = `${server.url}/news`;
  const client = await EventClient.open(url);
  news.write('heard');
  await client.heard(1);
  const gone = told((on) => push.on('leave', on));
  client.close();
  await gone;
  return { push, news, url, client };
}

describe('A client that returns', () => {
  it('gets what it missed, in order, and then what is live', async () => {
    const { news, url, client } = await left();
    for (const data of ['one', 'two', 'three']) news.write(data);
    const back = await EventClient.open(url, returning(client));
    news.write('live');
    expect(back.opening.recovered).to.equal(true);
    expect(await back.heard(4)).to.deep.equal(['one', 'two', 'three', 'live']);
    expect(back.events[0]?.id, 'where the stream starts').to.equal(client.lastEventId.split('@')[0]);
  });

  it('may say where it stands in the query; the header goes first', async () => {
    const { news, url, client } = await left();
    news.write('missed');
    const cursor = encodeURIComponent(client.lastEventId);
    const back = await EventClient.open(`${url}?last_event_id=${cursor}`);
    expect(await back.heard(1)).to.deep.equal(['missed']);
    const again = await EventClient.open(`${url}?last_event_id=${cursor}`, returning(back));
    news.write('new');
    expect(await again.heard(1)).to.deep.equal(['new']);
  });

  it('loses nothing of what was written in the turn in which it joined', async () => {
    const { push, news, url, client } = await left();
    push.on('join', () => news.write('written as it joined'));
    news.write('missed');
    const back = await EventClient.open(url, returning(client));
    expect(await back.heard(2)).to.deep.equal(['missed', 'written as it joined']);
  });

  it('is not counted by the outcome of what it missed', async () => {
    const { news, url, client } = await left();
    const missed = news.send('missed');
    const back = await EventClient.open(url, returning(client));
    expect(await back.heard(1)).to.deep.equal(['missed']);
    expect(await missed).to.include({ listeners: 0, delivered: 0, status: 'success' });
  });

  it('gets a replay that is larger than the kernel takes at once', async () => {
    const { push, news, url, client } = await left({ log: { frames: 10_000, bytes: 2 ** 25 } });
    const line = 'y'.repeat(4000);
    for (let index = 0; index < 4000; index += 1) news.write(`${index} ${line}`);
    const back = await EventClient.open(url, returning(client));
    const heard = await back.heard(4000);
    expect(heard.map((data) => Number.parseInt(data, 10))).to.deep.equal(
      Array.from({ length: 4000 }, (_, i) => i),
    );
    expect(push.inspect().listeners).to.equal(1);
  });

  const gaps: [
    name: string,
    options: CometOptions,
    lose: (news: Channel, push: Comet) => void | Promise<void>,
  ][] = [
    [
      'more frames than the log retains',
      { log: { frames: 2 } },
      (news) => {
        for (const data of [1, 2, 3]) news.write(data);
      },
    ],
    [
      'more bytes',
      { log: { bytes: 100 } },
      (news) => {
        for (const letter of ['x', 'y']) news.write(letter.repeat(80));
      },
    ],
    [
      'an end, and another channel of that name',
      {},
      (news, push) => {
        news.end();
        push.channels.create({ name: 'news' });
      },
    ],
  ];
  for (const [name, options, lose] of gaps) {
    it(`is told of the gap after ${name}`, async () => {
      const { push, url, client, news } = await left(options);
      await lose(news, push);
      const back = await EventClient.open(url, returning(client));
      push.channels.find('news')?.write('new');
      expect(back.opening.recovered).to.equal(false);
      expect(await back.heard(1), 'nothing by halves').to.deep.equal(['new']);
    });
  }

  it('is told of the gap after frames that grew too old, without anyone having written since', async () => {
    const { push, news, url, client } = await left({ log: { age: 20 } });
    news.write('missed');
    const { port } = new URL(url);
    // A listener keeps the hub's clock going: it leaves by its timeout, long after the frame was let go.
    push.setTimeout(100);
    const other = await EventClient.open(`http://127.0.0.1:${port}/news`);
    await other.ended();
    expect(push.inspect().channels).to.deep.include.members([
      { ...push.inspect().channels[0], frames: 0, bytes: 0 },
    ]);
    const back = await EventClient.open(url, returning(client));
    expect(back.opening.recovered).to.equal(false);
  });

  for (const cursor of [
    '0123456789ab-1',
    '{epoch}-99',
    '{epoch}-01',
    '{epoch}--1',
    '{epoch}-1x',
    'nonsense',
    '-',
    '{epoch}-9007199254740993',
  ]) {
    it(`is told of the gap with the cursor ${cursor}`, async () => {
      const { push, news, url } = await left();
      const header = cursor.replace('{epoch}', push.inspect().epoch);
      const back = await EventClient.open(url, { 'Last-Event-ID': header });
      news.write('new');
      expect(back.opening.recovered).to.equal(false);
      expect(back.events[0]?.id).to.equal(`${push.inspect().epoch}-1`);
      expect(await back.heard(1)).to.deep.equal(['new']);
    });
  }
});

describe('A client that returns to several channels', () => {
  it("is recovered although a channel with lag: 'latest' went on without it: it gets the newest of that", async () => {
    const { push, server } = await hub();
    const chat = push.channels.create({ name: 'chat' });
    const price = push.channels.create({ name: 'price', lag: 'latest', log: { frames: 1 } });
    const url = `${server.url}?chan_id=chat&chan_id=price`;
    const client = await EventClient.open(url);
    const gone = told((on) => push.on('leave', on));
    client.close();
    await gone;
    price.write('price 1');
    chat.write('missed');
    price.write('price 2');
    price.write('price 3');
    const back = await EventClient.open(url, returning(client));
    chat.write('live');
    expect(back.opening.recovered).to.equal(true);
    expect(await back.heard(3)).to.deep.equal(['missed', 'price 3', 'live']);
  });

  it('is a newcomer after a gap, and gets what a channel rewinds', async () => {
    const { push, server } = await hub();
    push.channels.create({ name: 'price', rewind: 1 }).write('price 1');
    const back = await EventClient.open(`${server.url}/price`, { 'Last-Event-ID': '0123456789ab-7' });
    expect(back.opening.recovered).to.equal(false);
    expect(await back.heard(1)).to.deep.equal(['price 1']);
  });
});

describe('A newcomer', () => {
  it('starts at the head', async () => {
    const { news, url } = await left();
    const client = await EventClient.open(url);
    news.write('new');
    expect(client.opening.recovered).to.equal(true);
    expect(await client.heard(1)).to.deep.equal(['new']);
  });

  it('that joins between a write and its flush gets what was written after it joined, and not before', async () => {
    const { push, server } = await hub({
      authorize: () => {
        news.write('before');
        return true;
      },
    });
    const news = push.channels.create({ name: 'news' });
    const first = await EventClient.open(`${server.url}/news`);
    push.on('join', () => news.write('after'));
    const second = await EventClient.open(`${server.url}/news`);
    news.write('last');
    expect(await second.heard(2)).to.deep.equal(['after', 'last']);
    expect(await first.heard(3)).to.deep.equal(['before', 'after', 'last']);
  });

  it('gets the newest frames of a channel that rewinds, and none of another', async () => {
    const { push, server } = await hub();
    const price = push.channels.create({ name: 'price', rewind: 2 });
    const chat = push.channels.create({ name: 'chat' });
    for (let index = 1; index <= 4; index += 1) {
      price.write(`price ${index}`);
      chat.write(`chat ${index}`);
    }
    const client = await EventClient.open(`${server.url}?chan_id=price&chan_id=chat`);
    chat.write('chat 5');
    expect(await client.heard(3)).to.deep.equal(['price 3', 'price 4', 'chat 5']);
    const { epoch } = push.inspect();
    expect(client.events.map(({ id }) => id)).to.deep.equal([
      ...['new!', 'new!@price', 'new!@price'],
      ...[`${epoch}-8`, `${epoch}-9@chat`],
    ]);
    expect(client.events[3]).to.include({ event: 'comet:ready', data: '{}' });
  });
});

describe('A stream on several channels', () => {
  it('carries them in the order of the writes, each named in its id', async () => {
    const { push, server } = await hub();
    const names = ['a', 'b/ä', 'c@d e'];
    const channels = names.map((name) => push.channels.create({ name }));
    const query = names.map((name) => `chan_id=${encodeURIComponent(name)}`).join('&');
    const client = await EventClient.open(`${server.url}/?${query}`);
    const random = new Random(7);
    const written: [string, string][] = [];
    for (let index = 0; index < 300; index += 1) {
      const channel = random.pick(channels);
      channel.write(`${index}`);
      written.push([`${push.inspect().epoch}-${index + 1}@${encodeURIComponent(channel.id)}`, `${index}`]);
      if (random.below(4) === 0) await new Promise(setImmediate);
    }
    await client.heard(300);
    expect(client.events.slice(1).map(({ id, data }) => [id, data])).to.deep.equal(written);
  });

  it('says the end of one and goes on with the others, and ends with the last', async () => {
    const { push, server } = await hub();
    const [a, b] = ['a', 'b'].map((name) => push.channels.create({ name })) as [Channel, Channel];
    const client = await EventClient.open(`${server.url}?chan_id=a&chan_id=b`);
    a.write('last of a');
    a.end();
    b.write('b goes on');
    await client.heard(2);
    expect(client.events.slice(1).map(({ event, data }) => [event, data])).to.deep.equal([
      [undefined, 'last of a'],
      ['comet:end', '{"channel":"a"}'],
      [undefined, 'b goes on'],
    ]);
    expect([a.listeners, b.listeners]).to.deep.equal([0, 1]);
    b.end();
    await client.ended();
    expect(client.events.at(-1)).to.include({ event: 'comet:end', data: '{"channel":"b"}' });
  });
});

describe('A burst that is larger than the log', () => {
  it('reaches a listener that reads', async () => {
    const { push, server } = await hub({ log: { frames: 10 } });
    const news = push.channels.create({ name: 'news' });
    const client = await EventClient.open(`${server.url}/news`);
    for (let index = 0; index < 1000; index += 1) news.write(String(index));
    expect(await client.heard(1000)).to.deep.equal(Array.from({ length: 1000 }, (_, index) => String(index)));
    expect(news.listeners).to.equal(1);
  });
});

describe('A fan-out in slices', () => {
  it('gives every listener everything once and in order, while they come, go and are written to', async () => {
    const { push, server } = await hub();
    const news = push.channels.create({ name: 'news' });
    const clients = await Promise.all(Array.from({ length: 300 }, () => RawClient.get(server.port, '/news')));
    await Promise.all(clients.map((client) => client.until('comet:open')));
    const outcomes = [];
    for (let index = 0; index < 50; index += 1) {
      outcomes.push(news.send(`write ${index};`));
      if (index % 10 === 5) await clients.pop()?.reset();
      await new Promise(setImmediate);
    }
    await Promise.all(clients.map((client) => client.until('write 49;')));
    const all = Array.from({ length: 50 }, (_, index) => `write ${index};`);
    for (const client of clients) expect(client.text.match(/write \d+;/g)).to.deep.equal(all);
    for (const outcome of await Promise.all(outcomes)) {
      expect(outcome.delivered + outcome.failed).to.equal(outcome.listeners);
    }
  });
});
