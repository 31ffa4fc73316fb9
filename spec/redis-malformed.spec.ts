import { expect } from 'chai';
import { type CometError, MalformedMessageError } from '../lib/index.js';
import { healthy, newNode, node, nodes, type RawRedis, rawClient, until, Watch } from './support/nodes.js';
import { delivered } from './support/outcomes.js';
import { RedisServer } from './support/redis.js';

const KEY = '{express-comet}:';
const FAR = Number.MAX_SAFE_INTEGER;
const BODY = 'data: forged\n\n';

/** A node whose channel `a` has a listener that has heard `one`, and the errors that the node tells. */
async function listening() {
  const redis = await RedisServer.start();
  const raw = await rawClient(redis);
  const { push, listen } = await node(redis.port, { lease: 60_000, deadline: 1000 });
  const errors: unknown[] = [];
  push.on('error', (error) => errors.push(error));
  const a = push.channels.create({ name: 'a' });
  const client = await listen('a');
  expect(await a.send('one')).to.deep.equal(delivered(1));
  const { epoch } = push.inspect();
  const publish = (text: string, topic = 'topic:a') => raw.publish(`${KEY}0:${topic}`, text);
  return { redis, raw, push, listen, a, client, errors, epoch, publish };
}

const lastOf = async (raw: RawRedis) => Number(await raw.hGet(`${KEY}channel:a`, 'last'));

function expectTold(errors: readonly unknown[], ...patterns: readonly RegExp[]): void {
  expect(errors.map((error) => (error as CometError).message)).to.have.length(patterns.length);
  for (const [index, pattern] of patterns.entries()) {
    expect(errors[index]).to.be.an.instanceOf(MalformedMessageError);
    expect((errors[index] as CometError).message).to.match(pattern);
  }
}

describe('A message that no node has sent', () => {
  for (const kind of ['e', 'x']) {
    it(`with a position that is far too high makes no channel deaf, and is told once (${kind})`, async () => {
      const { redis, raw, push, listen, a, client, errors, epoch, publish } = await listening();
      const watch = await Watch.on(redis);
      for (let time = 0; time < 3; time += 1) {
        const head = `1 ${kind} ${epoch} ${FAR} ${await lastOf(raw)} `;
        await publish(`${head}\n${kind === 'e' ? BODY : 'a'}`, kind === 'e' ? 'topic:a' : 'all');
        await push.health();
      }
      expect(await a.send('two')).to.deep.equal(delivered(1));
      expect(await client.heard(2)).to.deep.equal(['one', 'two']);
      const other = await listen('a');
      expect(await a.send('three')).to.deep.equal(delivered(2));
      expect(await other.heard(1)).to.deep.equal(['three']);
      expect(client.events.map(({ event }) => event)).to.not.include('comet:gap');
      expectTold(errors, /^An entry of the channel "a" is malformed .*end of the order/);
      await watch.seen(/lua\] "PUBLISH" .*three/);
      expect(watch.matching(/\[0 [^l].*"EVALSHA"/i).length, 'looks').to.be.below(15);
    });
  }

  it('with a position that is a little too high is told, and what it displaced is said as a gap', async () => {
    const { raw, a, client, errors, epoch, publish } = await listening();
    const last = await lastOf(raw);
    await publish(`1 e ${epoch} ${last + 1000} ${last} \n${BODY}`);
    await client.heard(2);
    await a.send('two');
    await until(() => client.events.some(({ event }) => event === 'comet:gap'));
    expect(await a.send('three')).to.deep.equal(delivered(1));
    await until(() => client.messages.at(-1) === 'three');
    expectTold(errors, /^An entry is malformed .*end of the order/);
  });

  it('or with another text than an event is told, and said as a gap, and no text gets into the stream', async () => {
    const { raw, a, client, errors, epoch, publish } = await listening();
    const last = await lastOf(raw);
    await publish(`1 e ${epoch} ${last + 1} ${last} \ndata: x\n\nid: 7\ndata: y\n\n`);
    await until(() => client.events.some(({ event }) => event === 'comet:gap'));
    await until(() => errors.length > 0);
    await a.send('two');
    await until(async () => (await a.send('three')).delivered === 1 && client.messages.includes('three'));
    expect(client.messages.filter((text) => text === 'x' || text === 'y')).to.deep.equal([]);
    expect((errors[0] as Error).message).to.match(/is no event/);
  });

  it('of a form that is none is told once for each cause', async () => {
    const { push, a, client, errors, epoch, publish } = await listening();
    const messages = [
      '',
      'nonsense',
      '1 e',
      `1 e ${epoch} x 1 \n${BODY}`,
      `1 e ${epoch} 9 9 \n${BODY}`,
      '1 w {',
      '1 w {"kind":"count","node":"x"}',
    ];
    for (let time = 0; time < 2; time += 1) for (const text of messages) await publish(text);
    await push.health();
    expect(await a.send('two')).to.deep.equal(delivered(1));
    expect(await client.heard(2)).to.deep.equal(['one', 'two']);
    expectTold(
      errors,
      ...[/no version/, /no text/, /"x" is no number/, /before the one before/, /no JSON/, /no count/],
    );
  });

  it('of another version, or of a kind that is unknown, is ignored without a word', async () => {
    const { push, raw, a, client, errors, epoch, publish } = await listening();
    const last = await lastOf(raw);
    for (const text of [
      `2 e ${epoch} ${last + 1} ${last} \n${BODY}`,
      '2 w {',
      '1 z 1 2 3',
      '1 w {"kind":"new","node":"x"}',
      '2 m 1-1',
      '2',
      '2 later',
      '2 m2 1\nx',
      '1 later',
      '1 n2 x\ny',
    ]) {
      await publish(text);
      await publish(text, 'all');
    }
    await push.health();
    expect(await a.send('two')).to.deep.equal(delivered(1));
    expect(await client.heard(2)).to.deep.equal(['one', 'two']);
    expect(errors).to.deep.equal([]);
  });
});

describe('A message with fields that are unknown', () => {
  it('is an entry by the fields that are known', async () => {
    const { raw, push, a, client, errors, epoch, publish } = await listening();
    const last = await lastOf(raw);
    await raw.hIncrBy(`${KEY}hub`, 'seq', 3);
    await publish(`1 e ${epoch} ${last + 1} ${last}  later\ndata: two\n\n`);
    await publish(`1 e ${epoch} ${last + 2} ${last + 1} 1 nobody later\ndata: three\n\n`);
    expect(await client.heard(3)).to.deep.equal(['one', 'two', 'three']);
    await publish(`1 x ${epoch} ${last + 3} ${last + 2} 1000 later\na`, 'all');
    await client.ended();
    expect(a.ended).to.equal(true);
    await push.health();
    expect(errors).to.deep.equal([]);
  });
});

describe('A channel whose name has a line separator of Unicode', () => {
  it('is counted on all nodes', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b']);
    const name = 'line\u2028and\u2029paragraph';
    const channel = a!.push.channels.create({ name });
    await a!.push.health();
    await b!.listen(name);
    expect(await channel.send('one')).to.deep.equal(delivered(1));
    expect(await channel.countListeners()).to.deep.include({ listeners: 1, silent: [] });
  });
});

describe('An entry in the log that no node has written', () => {
  it('is told once, and the channel goes on', async () => {
    const { redis, raw, push, a, client, errors } = await listening();
    await raw.xAdd(`${KEY}log:a`, `${(await lastOf(raw)) + 1}-0`, { foo: 'bar' });
    await raw.hIncrBy(`${KEY}hub`, 'seq', 1);
    const other = await node(redis.port);
    const told: unknown[] = [];
    other.push.on('error', (error) => told.push(error));
    const late = await other.listen('a');
    expect(await a.send('two')).to.deep.equal(delivered(2));
    expect(await client.heard(2)).to.deep.equal(['one', 'two']);
    expect(await late.heard(1)).to.deep.equal(['two']);
    await healthy(push);
    await healthy(other.push);
    expectTold(told, /log of the channel "a"/);
    expect(errors.length).to.be.below(2);
  });

  it('at the end of the numbers does not keep the channel from being written', async () => {
    const { raw, push, a, client } = await listening();
    await raw.xAdd(`${KEY}log:a`, `${FAR}-1`, { p: '0', a: '', b: BODY });
    expect(await a.send('two')).to.deep.equal(delivered(1));
    expect(await client.heard(2)).to.deep.equal(['one', 'two']);
    await healthy(push);
  });

  it('and that is no event is not replayed, and what is lost with it is said', async () => {
    const { redis, raw, a, errors } = await listening();
    const last = await lastOf(raw);
    await raw.xAdd(`${KEY}log:a`, `${last + 1}-0`, { p: String(last), a: '', b: 'id: 7\ndata: x\n\n' });
    await raw.hIncrBy(`${KEY}hub`, 'seq', 1);
    const other = await node(redis.port);
    other.push.on('error', (error) => errors.push(error));
    const late = await other.listen('a', `${other.push.inspect().epoch}-${last - 1}`);
    expect(await a.send('two')).to.deep.equal(delivered(2));
    await late.heard(1);
    expect(late.messages).to.deep.equal(['two']);
    expect(JSON.parse(late.events[0]?.data ?? '')).to.deep.include({ recovered: false, gaps: ['a'] });
    expectTold(errors, /is no event/);
  });
});

describe('The fields of a channel', () => {
  for (const last of ['foo', String(FAR), '-1', '1e3']) {
    it(`may have a last position of ${last}: the channel goes on`, async () => {
      const { redis, raw, push, a } = await listening();
      await raw.hSet(`${KEY}channel:a`, {
        last,
        bytes: last,
        until: last,
        begun: last,
        made: last,
        after: last,
      });
      const other = await node(redis.port, { lease: 60_000 });
      const late = await other.listen('a');
      await push.health();
      await until(async () => (await a.send('two')).delivered === 2);
      await until(() => late.messages.includes('two'));
      expect(Number(await raw.hGet(`${KEY}channel:a`, 'last'))).to.equal(
        Number(await raw.hGet(`${KEY}hub`, 'seq')),
      );
    });
  }
});

describe('The terms of a channel', () => {
  for (const terms of ['{', 'null', '{"log":{"frames":-1}}']) {
    it(`that are ${terms} are told, and the channel is not found`, async () => {
      const redis = await RedisServer.start();
      const raw = await rawClient(redis);
      const [made, asked] = await nodes(redis.port, ['a', 'b'], { lease: 60_000 });
      made!.push.channels.create({ name: 'a' });
      await made!.push.health();
      await raw.hSet(`${KEY}channel:a`, 'terms', terms);
      const errors: unknown[] = [];
      asked!.push.on('error', (error) => errors.push(error));
      expect((await fetch(`${asked!.server.url}/a`)).status).to.equal(404);
      expectTold(errors, /terms of the channel "a"/);
    });
  }
});

describe('Keys of another version', () => {
  it('are not used: the node says which version they are of, and what to do', async () => {
    const redis = await RedisServer.start();
    const raw = await rawClient(redis);
    await raw.hSet(`${KEY}hub`, { version: '2', epoch: 'later', run: 'other' });
    const causes: (Error | undefined)[] = [];
    const { push } = await newNode(redis.port);
    push.on('backplane', ({ cause }) => causes.push(cause));
    await until(() => causes.length > 0);
    expect(causes[0]?.message).to.match(/version "2", and this node knows version 1: .*another prefix/);
    expect(await raw.hGetAll(`${KEY}hub`)).to.deep.equal({ version: '2', epoch: 'later', run: 'other' });
    await raw.del(`${KEY}hub`);
    await healthy(push);
    const hub = await raw.hGetAll(`${KEY}hub`);
    expect(hub.version).to.equal('1');
    const lives = Object.entries(hub).filter(([field]) => field.startsWith('life:'));
    expect(
      lives.map(([, life]) => life.split(' ')[0]),
      'the versions of the nodes',
    ).to.deep.equal(['1']);
  });
});
