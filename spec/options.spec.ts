import { hostname } from 'node:os';
import { inspect } from 'node:util';
import { expect } from 'chai';
import { channelSettings, hubSettings } from '../lib/core/options.js';
import { inProcess } from '../lib/engines/memory.js';
import { redis } from '../lib/engines/redis/redis.js';
import {
  type Channel,
  type ChannelOptions,
  type Comet,
  type CometOptions,
  comet,
  InvalidOptionError,
} from '../lib/index.js';

const LONGEST_MS = 2 ** 31 - 1;

// No message about it can say all of it.
const cyclic: unknown[] = [];
cyclic.push(cyclic);

interface Rule {
  readonly name: string;
  readonly good: readonly unknown[];
  readonly bad: readonly unknown[];
}

const never = [true, '5', {}, [], [5], () => 5, Symbol('5'), 5n, Number.NaN, Infinity, -1, 1.5, new Date()];

const whole = (name: string, min: number, max = Number.MAX_SAFE_INTEGER): Rule => ({
  name,
  good: [min, min + 1, max],
  bad: [...never, null, min - 1, max + 1],
});
const milliseconds = (name: string) => whole(name, 1, LONGEST_MS);
const orNull = ({ name, good, bad }: Rule): Rule => ({
  name,
  good: [...good, null],
  bad: bad.filter((value) => value !== null),
});
const callable = (name: string): Rule => ({
  name,
  good: [() => true],
  bad: [null, true, 'JSON', 1, {}, []],
});

const logRules: readonly Rule[] = [whole('frames', 1), whole('bytes', 1), orNull(milliseconds('age'))];

const channelRules: readonly Rule[] = [
  { name: 'log', good: [{}], bad: [null, true, 1000, '1000', [], [1000], () => ({})] },
  { name: 'lag', good: ['close', 'latest'], bad: [null, true, 0, '', 'Close', 'drop', ['close'], {}] },
  whole('rewind', 0),
  callable('encode'),
];

const hubRules: readonly Rule[] = [
  ...channelRules,
  orNull(whole('maxVirtualChannels', 0)),
  callable('authorize'),
  orNull(milliseconds('heartbeat')),
  {
    name: 'retry',
    good: [[0, 0], [5, 5], [2000, 4000], [0, LONGEST_MS], Object.freeze([1, 2])],
    bad: [
      ...[null, true, 2000, '2000', {}, [], [2000], [1, 2, 3], [4000, 2000], [-1, 5], [0.5, 5], ['1', '2']],
      ...[[Number.NaN, 5], [0, LONGEST_MS + 1], [null, 5], [1n, 2n], { 0: 1, 1: 2, length: 2 }, cyclic],
    ],
  },
  milliseconds('stall'),
  orNull(milliseconds('vanish')),
  orNull(milliseconds('timeout')),
  orNull(milliseconds('lifetime')),
  whole('channelsPerStream', 1),
  whole('maxWaitingNames', 0),
  {
    name: 'maxLingering',
    good: [{}, { channels: 1 }, { bytes: 1 }, { channels: 5, bytes: 5 }],
    bad: [null, true, 5, [], { channels: 0 }, { bytes: 0 }, { channels: 1.5 }, { bytes: '5' }],
  },
  orNull(whole('maxListeners', 1)),
  orNull(whole('maxListenersPerChannel', 1)),
  orNull(whole('maxListenersPerClient', 1)),
  callable('client'),
  whole('maxFrame', 1),
  {
    name: 'backplane',
    good: [inProcess()],
    bad: [null, true, 5, 'redis', {}, [], () => ({}), { connect() {} }, { name: 'redis' }, redis],
  },
  {
    name: 'node',
    good: ['web-1', 'a', '10.0.0.1', 'x'.repeat(64)],
    bad: [null, true, 5, '', 'a b', 'a\n', 'x'.repeat(65), 'é', {}],
  },
  milliseconds('deadline'),
  {
    name: 'queue',
    good: [{}, { writes: 1 }, { bytes: 1 }, { wait: 0 }, { writes: 5, bytes: 5, wait: LONGEST_MS }],
    bad: [null, true, 5, [], { writes: 0 }, { bytes: 0 }, { wait: -1 }, { wait: null }, { writes: 1.5 }],
  },
];

/** What is no bag of options at all. */
const notOptions = [null, true, 5, 'news', Symbol('options'), 5n, () => ({}), [], ['log']];

/** That the call is refused by a message that has each of these parts in it. */
function refused(call: () => unknown, what: string, ...parts: readonly string[]): void {
  expect(call, what)
    .to.throw(InvalidOptionError)
    .that.satisfies(({ message, code }: InvalidOptionError) => {
      for (const part of parts) expect(message, what).to.contain(part);
      return code === 'INVALID_OPTION';
    });
}

/** As `refused`, for a call that returns a promise: whether it throws or rejects. */
async function rejected(call: () => unknown, what: string, ...parts: readonly string[]): Promise<void> {
  const fault = await (async () => call())().then(
    () => undefined,
    (error: unknown) => error,
  );
  refused(
    () => {
      if (fault !== undefined) throw fault;
    },
    what,
    ...parts,
  );
}

/** Registers the tests of every option that such a call takes. */
function checks(rules: readonly Rule[], call: (options: never) => unknown): void {
  for (const { name, good, bad } of rules) {
    it(`takes what ${name} can be, and refuses the rest by its name and what to give instead`, () => {
      for (const value of good) call({ [name]: value } as never);
      for (const value of bad) {
        refused(() => call({ [name]: value } as never), inspect(value), `option ${name}`, 'must be');
      }
    });
  }
  for (const { name, good, bad } of logRules) {
    it(`takes what log.${name} can be, and refuses the rest by its name and what to give instead`, () => {
      for (const value of good) call({ log: { [name]: value } } as never);
      for (const value of bad) {
        const options = { log: { [name]: value } } as never;
        refused(() => call(options), inspect(value), `option log.${name}`, 'must be');
      }
    });
  }

  it('refuses an unknown option, and says which there are', () => {
    const known = rules.map(({ name }) => name);
    const [first = ''] = known;
    for (const name of ['retries', 'Log', 'toString', 'constructor', '']) {
      refused(() => call({ [name]: 1 } as never), name, JSON.stringify(name), ...known);
    }
    refused(() => call(JSON.parse('{ "__proto__": 1 }') as never), '__proto__', '"__proto__"', first);
    refused(() => call({ log: { frame: 1 } } as never), 'log.frame', 'frame"', 'frames', 'bytes', 'age');
  });

  it('refuses what is no object of options', () => {
    for (const options of notOptions) refused(() => call(options as never), inspect(options), 'must be');
  });

  it('takes what an object inherits as it takes its own', () => {
    const options = Object.create({ lag: 'nonsense' });
    refused(() => call(options as never), 'inherited', 'lag');
  });

  it('takes an explicit undefined for the default', () => {
    const names = rules.map(({ name }) => [name, undefined]);
    call({ ...Object.fromEntries(names) } as never);
    call({ log: { frames: undefined, bytes: undefined, age: undefined } } as never);
    call(undefined as never);
  });
}

describe('The options of comet()', () => {
  checks(hubRules, (options) => comet(options));

  it('are by default what the documentation says', () => {
    const { authorize, encode, client, node, ...settings } = hubSettings({});
    expect(node).to.equal(
      hostname()
        .replace(/[^\w.-]/g, '-')
        .slice(0, 64),
    );
    expect(settings).to.deep.equal({
      maxVirtualChannels: null,
      log: { frames: 1000, bytes: 1_048_576, age: 300_000 },
      lag: 'close',
      rewind: 0,
      heartbeat: 15_000,
      retry: [2000, 4000],
      stall: 30_000,
      vanish: 60_000,
      timeout: null,
      lifetime: null,
      channelsPerStream: 100,
      maxWaitingNames: 50_000,
      maxLingering: { channels: 10_000, bytes: 16_777_216 },
      maxListeners: null,
      maxListenersPerChannel: null,
      maxListenersPerClient: null,
      maxFrame: 1_048_576,
      backplane: undefined,
      deadline: 5000,
      queue: { writes: 50_000, bytes: 67_108_864, wait: 5000 },
    });
    expect(authorize({} as never, ['news'])).to.equal(true);
    expect(encode('as it is' as never)).to.equal('as it is');
    expect(encode({ magnitude: -2 } as never)).to.equal('{"magnitude":-2}');
    expect(encode(null as never)).to.equal('null');
    const socket = { remoteAddress: '::1' };
    expect(client({ socket } as never), 'the address of the socket').to.equal('::1');
    expect(client({ ip: '192.0.2.1', socket } as never), "Express's request.ip").to.equal('192.0.2.1');
  });

  it('say in their message what was given instead', () => {
    for (const value of [null, '5', 1.5, true]) {
      refused(() => comet({ stall: value } as never), inspect(value), `not ${JSON.stringify(value)}`);
    }
    expect(() => comet({ retry: [1, 'a'] } as never)).to.throw(/not \[ ?1, ["']a["'] ?\]/);
  });

  it('are, where undefined, the default', () => {
    const names = Object.keys(hubSettings({})).map((name) => [name, undefined]);
    expect(hubSettings(Object.fromEntries(names))).to.deep.equal(hubSettings({}));
    expect(hubSettings({ log: { frames: 5, bytes: undefined } }).log).to.deep.equal({
      frames: 5,
      bytes: 1_048_576,
      age: 300_000,
    });
  });
});

describe('The options of channels.create()', () => {
  checks(channelRules, (options: ChannelOptions) => comet().channels.create(options));

  it('say the name among those there are', () => {
    refused(() => comet().channels.create({ nam: 'news' } as never), 'nam', 'name');
  });

  it('leave no channel behind when they are refused', () => {
    const { channels } = comet();
    refused(() => channels.create({ name: 'news', rewind: -1 }), 'rewind', 'rewind');
    expect(channels.size).to.equal(0);
    expect(channels.find('news')).to.equal(undefined);
  });
});

describe('The options of channels.open()', () => {
  checks(channelRules, (options: ChannelOptions) => comet().channels.open('news', options));

  it('are checked where the channel is found, too, though it keeps its own', () => {
    const { channels } = comet();
    const news = channels.open('news', { log: { frames: 1 } });
    expect(channels.open('news', { log: { frames: 9 } })).to.equal(news);
    for (let count = 0; count < 5; count += 1) news.write('x');
    expect(news.inspect().frames).to.equal(1);
    refused(() => channels.open('news', { rewind: -1 }), 'rewind', 'rewind');
  });

  describe('that differ from those of the channel', () => {
    const encode = (data: unknown) => `<${data}>`;

    /** What is told where a channel is opened with options, and once more with others. */
    async function told(options: ChannelOptions, ...others: ChannelOptions[]): Promise<string[]> {
      const push = comet();
      const errors: string[] = [];
      push.on('error', (error) => {
        expect(error).to.be.an.instanceof(InvalidOptionError);
        errors.push((error as Error).message);
      });
      const news = push.channels.open('news', options);
      for (const other of others) expect(push.channels.open('news', other)).to.equal(news);
      await new Promise(setImmediate);
      return errors;
    }

    const differences: [ChannelOptions, ChannelOptions, string][] = [
      [{ rewind: 1 }, { rewind: 5 }, 'rewind 5 instead of 1'],
      [{}, { lag: 'latest' }, 'lag "latest" instead of "close"'],
      [{ log: { frames: 5 } }, { log: { frames: 6, bytes: 2 ** 20 } }, 'log.frames 6 instead of 5'],
      [{}, { log: { age: null } }, 'log.age null instead of 300000'],
      [{}, { encode }, 'encode [Function: encode] instead of [Function: encodeText]'],
    ];
    for (const [options, other, text] of differences) {
      it(`are told once as an error: ${text}`, async () => {
        const errors = await told(options, other, other, { rewind: 9 });
        expect(errors).to.have.length(1);
        expect(errors[0])
          .to.contain('"news"')
          .and.contain(`(${text})`)
          .and.match(/: .+\.$/);
      });
    }

    it('are told together', async () => {
      expect((await told({}, { rewind: 3, lag: 'latest' }))[0]).to.contain(
        '(lag "latest" instead of "close", rewind 3 instead of 0)',
      );
    });

    it('are none where open() leaves them out, or gives the same once more', async () => {
      const options = { rewind: 1, log: { frames: 5 }, encode };
      const again = { rewind: 1, log: { frames: 5, age: undefined }, encode: (data: unknown) => `<${data}>` };
      expect(await told(options, {}, { lag: undefined }, { log: {} }, options, again)).to.deep.equal([]);
    });

    it('are told of each channel, and of one that is made anew', async () => {
      const push = comet();
      const errors: unknown[] = [];
      push.on('error', (error) => errors.push(error));
      for (const name of ['news', 'chat', 'news']) {
        push.channels.open(name, { rewind: 1 });
        push.channels.open(name, { rewind: 2 });
        push.channels.find(name)?.end();
      }
      await new Promise(setImmediate);
      expect(errors).to.have.length(3);
    });
  });
});

describe('The options of a channel', () => {
  it("are its hub's, where it has none of its own", () => {
    const encode = () => 'encoded';
    const hub = hubSettings({
      log: { frames: 5, bytes: 1000, age: null },
      lag: 'latest',
      rewind: 3,
      encode,
      heartbeat: 5,
    });
    const inherited = { log: { frames: 5, bytes: 1000, age: null }, lag: 'latest', rewind: 3, encode };
    expect(channelSettings({}, hub)).to.deep.equal(inherited);
    expect(channelSettings({ rewind: undefined, log: {} }, hub)).to.deep.equal(inherited);
    const own = channelSettings({ lag: 'close', log: { frames: 9, age: 1 } }, hub);
    expect(own).to.deep.equal({ ...inherited, lag: 'close', log: { frames: 9, bytes: 1000, age: 1 } });
  });

  it('hold for that channel only', () => {
    const { channels } = comet({ log: { frames: 2 }, encode: () => 'hub' });
    const own = channels.create({ log: { frames: 1 }, encode: () => 'channel' });
    const other = channels.create();
    for (const channel of [own, other]) for (let count = 0; count < 5; count += 1) channel.write(0);
    expect([own.inspect().frames, other.inspect().frames]).to.deep.equal([1, 2]);
    const newest = [own, other].map((channel) => channel.feed.log.newest?.bytes.toString());
    expect(newest[0]).to.contain('data: channel');
    expect(newest[1]).to.contain('data: hub');
  });
});

describe("The caller's options", () => {
  const written = (channel: Channel) => {
    for (let count = 0; count < 9; count += 1) channel.write('x');
    return channel.inspect().frames;
  };

  it('may be frozen, and are not changed', () => {
    const log = Object.freeze({ frames: 2 });
    const retry = Object.freeze([1, 2] as const);
    const options: CometOptions = Object.freeze({ log, retry, rewind: undefined, maxVirtualChannels: 3 });
    const before = structuredClone(options);
    const push = comet(options);
    const own = Object.freeze({ name: 'news', log });
    expect(written(push.channels.create(own))).to.equal(2);
    expect(written(push.channels.open('chat', Object.freeze({ log })))).to.equal(2);
    push.channels.find('news')?.write('x', Object.freeze({ event: 'said' }));
    push.setTimeout(5, Object.freeze({ reset: true }));
    expect(options).to.deep.equal(before);
    expect(own).to.deep.equal({ name: 'news', log: { frames: 2 } });
  });

  it('are not kept: what is done to them later changes nothing', () => {
    const log = { frames: 2 };
    const retry: [number, number] = [1, 2];
    const options: CometOptions = { log, retry, maxVirtualChannels: 2 };
    const settings = hubSettings(options);
    const { channels } = comet(options);
    const own = { log: { frames: 4 } };
    const news = channels.create(own);
    const chat = channels.create();
    log.frames = own.log.frames = 7;
    retry[1] = 0;
    options.maxVirtualChannels = 9;
    expect([written(news), written(chat)]).to.deep.equal([4, 2]);
    expect(settings.retry).to.deep.equal([1, 2]);
    expect(() => channels.create()).to.throw('maxVirtualChannels');
  });

  it('do not become the defaults of the next hub', () => {
    comet({ log: { frames: 2 }, heartbeat: 5 });
    expect(hubSettings({})).to.deep.include({ log: { frames: 1000, bytes: 1_048_576, age: 300_000 } });
    expect(hubSettings({}).heartbeat).to.equal(15_000);
  });
});

describe('The options of a call', () => {
  let push: Comet;
  let news: Channel;
  beforeEach(() => {
    push = comet();
    news = push.channels.create({ name: 'news' });
  });

  it('setTimeout() takes whole milliseconds or null', () => {
    const { good, bad } = orNull(milliseconds('timeout'));
    for (const value of good) push.setTimeout(value as number | null);
    for (const value of [...bad, undefined]) {
      refused(() => push.setTimeout(value as number), inspect(value), 'timeout', 'must be');
    }
  });

  it('setTimeout() and inspect() take a flag that is a boolean', () => {
    for (const flag of [true, false, undefined]) {
      push.setTimeout(5, { reset: flag });
      push.inspect({ streams: flag, channels: flag });
    }
    for (const flag of [null, 0, 1, 'yes', {}]) {
      refused(() => push.setTimeout(5, { reset: flag } as never), inspect(flag), 'option reset', 'must be');
      for (const name of ['streams', 'channels']) {
        refused(() => push.inspect({ [name]: flag } as never), inspect(flag), `option ${name}`, 'must be');
      }
    }
  });

  it('are refused where they are unknown, and the message says which there are', async () => {
    refused(() => push.setTimeout(5, { rest: true } as never), 'rest', '"rest"', 'reset');
    refused(() => push.inspect({ stream: true } as never), 'stream', '"stream"', 'streams', 'channels');
    refused(() => news.write('x', { evnt: 'x' } as never), 'evnt', '"evnt"', 'event', 'outcome');
    for (const name of ['evnt', 'outcome']) {
      await rejected(() => news.send('x', { [name]: 'x' } as never), name, `"${name}"`, 'event');
    }
    await rejected(() => push.close({ drains: 5 } as never), 'drains', '"drains"', 'drain');
  });

  const calls: Record<string, (options: never) => unknown> = {
    setTimeout: (options) => push.setTimeout(5, options),
    inspect: (options) => push.inspect(options),
    close: (options) => push.close(options),
    write: (options) => news.write('x', options),
    send: (options) => news.send('x', options),
  };
  for (const [name, call] of Object.entries(calls)) {
    it(`${name}() refuses what is no object of options, and does nothing`, async () => {
      for (const options of notOptions) {
        await rejected(() => call(options as never), inspect(options), 'must be');
      }
      expect(push.inspect()).to.include({ seq: 0, activated: true });
      await call(undefined as never);
    });
  }

  it('close() takes drain, whole milliseconds', async () => {
    const { bad } = milliseconds('drain');
    for (const drain of bad) {
      await rejected(() => push.close({ drain } as never), inspect(drain), 'drain', 'must be');
    }
    expect(push.activated, 'a refused close() closes nothing').to.equal(true);
    await push.close({ drain: undefined });
    await push.close({ drain: 1 });
  });

  it('write() takes an outcome that has a function resolve', () => {
    for (const outcome of [null, true, 1, 'resolve', {}, [], () => {}, { resolve: true }]) {
      refused(() => news.write('x', { outcome } as never), inspect(outcome), 'option outcome', 'must');
    }
    expect(push.inspect().seq, 'nothing was written').to.equal(0);
    news.write('x', { event: undefined, outcome: undefined });
    news.write('x', undefined);
    expect(push.inspect().seq).to.equal(2);
  });
});
