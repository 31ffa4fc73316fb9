import { expect } from 'chai';
import * as library from '../lib/index.js';
import {
  BackplaneError,
  type Channel,
  ChannelEndedError,
  type Comet,
  CometError,
  comet,
  FrameTooLargeError,
  HubClosedError,
  InvalidAuthorizationError,
  InvalidChannelNameError,
  InvalidClientError,
  InvalidDataError,
  InvalidEventNameError,
  InvalidMountError,
  InvalidOptionError,
  InvalidSourceError,
  MalformedMessageError,
  NonUniqueChannelNameError,
  TooManyVirtualChannelsError,
} from '../lib/index.js';
import { StrictParser } from './support/parser.js';
import { hub } from './support/server.js';

type ErrorClass = new (...args: never[]) => CometError;

/** What the call throws, held against its class. */
function thrown<E extends CometError>(call: () => unknown, type: new (...args: never[]) => E, what = ''): E {
  let fault: unknown;
  try {
    call();
  } catch (error) {
    fault = error;
  }
  expect(fault, what).to.be.an.instanceof(type);
  return fault as E;
}

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

const controls = [...Array(32).keys(), ...Array.from({ length: 33 }, (_, index) => 0x7f + index)];
const names: Record<string, unknown> = {
  'an empty one': '',
  'one of 257 units': 'x'.repeat(257),
  'one of 129 characters, which are 258 units': '\u{1F600}'.repeat(129),
  'one with a high surrogate alone': 'a\uD83D',
  'one with a low surrogate alone': '\uDE00a',
  null: null,
  'a number': 5,
  'a String': new String('news'),
  'a symbol': Symbol('news'),
  'an array': ['news'],
  'an object': {},
};
for (const code of controls) {
  names[`one with U+${code.toString(16).padStart(4, '0')}`] = `a${String.fromCharCode(code)}b`;
}

const ordinary = [
  ...['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'prototype', 'then', 'undefined', 'null'],
  ...[
    ' ',
    'a/b',
    '..',
    '%2F',
    '%',
    '?x=1#y',
    '"',
    'a,b',
    'é',
    'e\u0301',
    '\u{1F600}',
    '\xa0',
    '\u2028',
    '\uFEFF',
  ],
  ...['x'.repeat(256), '\u{1F600}'.repeat(128)],
];

describe('The name of a channel', () => {
  let push: Comet;
  beforeEach(() => {
    push = comet();
  });

  it('is refused unless it is 1 to 256 well-formed units without control characters', () => {
    for (const [what, name] of Object.entries(names)) {
      thrown(() => push.channels.create({ name } as never), InvalidChannelNameError, `create: ${what}`);
      thrown(() => push.channels.open(name as never), InvalidChannelNameError, `open: ${what}`);
    }
    thrown(() => push.channels.open(undefined as never), InvalidChannelNameError);
    expect(push.channels.size).to.equal(0);
  });

  it('is otherwise an ordinary one, __proto__ and constructor too', () => {
    const { channels } = push;
    for (const name of ordinary) expect(channels.find(name), `find ${name}`).to.equal(undefined);
    for (const name of ordinary) {
      const channel = channels.create({ name });
      expect(channel.id).to.equal(name);
      expect(channels.find(name)).to.equal(channel);
      expect(channels.open(name)).to.equal(channel);
      channel.write('x');
    }
    expect(Array.from(channels, ({ id }) => id)).to.deep.equal(ordinary);
    for (const channel of channels) channel.end();
    expect(channels.size).to.equal(0);
  });

  it('is two names where it is normalised in two ways', () => {
    expect(push.channels.create({ name: 'é' })).not.to.equal(push.channels.create({ name: 'e\u0301' }));
  });

  it('can be had once, and again after the end of the channel', () => {
    const first = push.channels.create({ name: 'news' });
    const error = thrown(() => push.channels.create({ name: 'news' }), NonUniqueChannelNameError);
    expect(error).to.include({ chanId: 'news' });
    expect(error.message).to.contain('"news"');
    expect(push.channels.size).to.equal(1);
    first.end();
    expect(push.channels.create({ name: 'news' })).not.to.equal(first);
  });
});

const cycle: unknown[] = [];
cycle.push(cycle);
const boom = new Error('boom');
const throws = () => {
  throw boom;
};
const data: Record<string, unknown> = {
  undefined,
  'a function': () => 'x',
  'a symbol': Symbol('x'),
  'a cycle': cycle,
  'a BigInt': 5n,
  'a BigInt within': { deep: [5n] },
  'a toJSON that throws': { toJSON: throws },
  'a toJSON that returns nothing': { toJSON: () => undefined },
  'a getter that throws': Object.defineProperty({}, 'x', { get: throws, enumerable: true }),
  'a high surrogate alone': 'a\uD83D',
  'a low surrogate alone': '\uDE00',
  'surrogates in the wrong order': '\uDE00\uD83D',
  'a Buffer': Buffer.from('x'),
  'a Uint8Array': new Uint8Array(1),
  'a DataView': new DataView(new ArrayBuffer(1)),
  'an ArrayBuffer': new ArrayBuffer(1),
  'a SharedArrayBuffer': new SharedArrayBuffer(1),
};

describe('Data', () => {
  let push: Comet;
  let news: Channel;
  beforeEach(() => {
    push = comet();
    news = push.channels.create({ name: 'news' });
  });
  afterEach(() => {
    expect(push.inspect().seq, 'nothing was written').to.equal(0);
    expect(news.inspect()).to.include({ writes: 0, lastWrite: null, frames: 0, bytes: 0 });
  });

  for (const [what, value] of Object.entries(data)) {
    it(`is refused where it is, or has, ${what}: by write() and by send()`, async () => {
      const error = thrown(() => news.write(value), InvalidDataError);
      expect(await rejection(news.send(value)))
        .to.be.an.instanceof(InvalidDataError)
        .that.includes({ code: error.code, message: error.message });
    });
  }

  const encoders: Record<string, (value: unknown) => unknown> = {
    'returns nothing': () => undefined,
    'returns null': () => null,
    'returns a number': () => 5,
    'returns a Buffer': () => Buffer.from('x'),
    'returns a String': () => new String('x'),
    'returns a promise': async () => 'x',
    'returns a lone surrogate': () => '\uD83D',
    throws,
    'throws nothing to speak of': () => {
      throw undefined;
    },
  };
  for (const [what, encode] of Object.entries(encoders)) {
    it(`is refused where the encode of its channel ${what}`, async () => {
      const own = push.channels.create({ encode: encode as () => string });
      thrown(() => own.write('x'), InvalidDataError);
      expect(await rejection(own.send('x'))).to.be.an.instanceof(InvalidDataError);
    });
  }

  it('is refused with what was thrown as the cause', () => {
    const own = push.channels.create({ encode: throws });
    for (const call of [() => own.write('x'), () => news.write({ toJSON: throws })]) {
      expect(thrown(call, InvalidDataError).cause).to.equal(boom);
    }
    expect(thrown(() => news.write(cycle), InvalidDataError).cause).to.be.an.instanceof(TypeError);
    expect(thrown(() => news.write(undefined), InvalidDataError)).not.to.have.property('cause');
  });

  it('is refused by a promise, never by a throw, where it is sent', async () => {
    const sent = news.send(undefined);
    expect(sent).to.be.an.instanceof(Promise);
    expect(await rejection(sent)).to.be.an.instanceof(InvalidDataError);
  });
});

const events: Record<string, unknown> = {
  'an empty one': '',
  'one with CR': 'a\rb',
  'one with LF': 'a\nb',
  'one with CRLF at its end': 'a\r\n',
  'one with NUL': 'a\0',
  'one with a lone surrogate': '\uD83D',
  'comet:open': 'comet:open',
  'comet:end': 'comet:end',
  'comet:': 'comet:',
  // A page's onopen and onerror would be called.
  open: 'open',
  error: 'error',
  null: null,
  'a number': 5,
  'a boolean': false,
  'a String': new String('said'),
  'an object': {},
  'an array': ['said'],
};

describe('The name of an event', () => {
  const push = comet();
  const news = push.channels.create({ name: 'news' });

  for (const [what, event] of Object.entries(events)) {
    it(`is refused where it is ${what}: by write() and by send()`, async () => {
      const { seq } = push.inspect();
      thrown(() => news.write('x', { event } as never), InvalidEventNameError);
      expect(await rejection(news.send('x', { event } as never))).to.be.an.instanceof(InvalidEventNameError);
      expect(push.inspect().seq).to.equal(seq);
    });
  }

  it('is otherwise what it is given as', () => {
    for (const event of ['message', 'Open', 'errors', ' ', ':', 'Comet:open', ' comet:', 'a: b', '\u2028']) {
      news.write('x', { event });
      expect(news.feed.log.newest?.bytes.toString()).to.contain(`\nevent: ${event}\n`);
    }
  });
});

describe('What is written', () => {
  it('may have maxFrame bytes, and not one more', async () => {
    const position = (push: Comet) => `id: ${push.inspect().epoch}-1@news\n`;
    const push = comet();
    const size = Buffer.byteLength(`${position(push)}event: é\ndata: é\n\n`);

    const exact = comet({ maxFrame: size }).channels.create({ name: 'news' });
    exact.write('é', { event: 'é' });
    expect(exact.inspect()).to.include({ writes: 1, bytes: size });

    const tight = comet({ maxFrame: size - 1 });
    const news = tight.channels.create({ name: 'news' });
    const error = thrown(() => news.write('é', { event: 'é' }), FrameTooLargeError);
    expect(error).to.include({ bytes: size, limit: size - 1 });
    expect(await rejection(news.send('é', { event: 'é' }))).to.be.an.instanceof(FrameTooLargeError);
    expect(tight.inspect().seq).to.equal(0);
  });

  it('reaches a stream without a byte of what was refused around it', async () => {
    const { push, server } = await hub({ maxFrame: 200 });
    const news = push.channels.create({ name: 'news' });
    const response = await fetch(`${server.url}/news`);
    const refuse = () => {
      for (const value of [...Object.values(data), 'x'.repeat(200)]) {
        thrown(() => news.write(value), CometError as never);
      }
      for (const event of Object.values(events)) {
        thrown(() => news.write('x', { event } as never), InvalidEventNameError);
      }
    };
    refuse();
    news.write('one');
    refuse();
    news.write('two');
    refuse();
    news.end();
    const parser = new StrictParser();
    for await (const piece of response.body!) parser.feed(piece);
    parser.end();
    expect(parser.events.map((event) => event.data).slice(1, -1)).to.deep.equal(['one', 'two']);
    expect(parser.faults).to.deep.equal([]);
  });
});

describe('A hub', () => {
  it('refuses one channel more than maxVirtualChannels, and has room again after an end', () => {
    const { channels } = comet({ maxVirtualChannels: 2 });
    const first = channels.create();
    const second = channels.open('news');
    for (const call of [() => channels.create(), () => channels.open('chat')]) {
      const error = thrown(call, TooManyVirtualChannelsError);
      expect(error).to.include({ limit: 2 });
    }
    expect(channels.open('news'), 'one that exists is still found').to.equal(second);
    expect(channels.size).to.equal(2);
    first.end();
    channels.create();
  });

  it('has no room at all where maxVirtualChannels is 0', () => {
    thrown(() => comet({ maxVirtualChannels: 0 }).channels.create(), TooManyVirtualChannelsError);
  });

  it('makes no channel and is not activated any more once it is closed', async () => {
    const push = comet();
    const news = push.channels.create({ name: 'news' });
    const closed = push.close();
    for (const when of ['at once', 'later']) {
      thrown(() => push.channels.create(), HubClosedError, when);
      thrown(() => push.channels.open('chat'), HubClosedError, when);
      thrown(() => push.activate(), HubClosedError, when);
      await closed;
    }
    expect(push.activated).to.equal(false);
    expect(push.channels.find('news')).to.equal(news);
  });
});

describe('Every error', () => {
  const classes: readonly [ErrorClass, string][] = [
    [InvalidOptionError, 'INVALID_OPTION'],
    [InvalidChannelNameError, 'INVALID_CHANNEL_NAME'],
    [NonUniqueChannelNameError, 'NON_UNIQUE_CHANNEL_NAME'],
    [TooManyVirtualChannelsError, 'TOO_MANY_VIRTUAL_CHANNELS'],
    [ChannelEndedError, 'CHANNEL_ENDED'],
    [HubClosedError, 'HUB_CLOSED'],
    [InvalidDataError, 'INVALID_DATA'],
    [InvalidEventNameError, 'INVALID_EVENT_NAME'],
    [InvalidSourceError, 'INVALID_SOURCE'],
    [MalformedMessageError, 'MALFORMED_MESSAGE'],
    [FrameTooLargeError, 'FRAME_TOO_LARGE'],
    [InvalidAuthorizationError, 'INVALID_AUTHORIZATION'],
    [InvalidClientError, 'INVALID_CLIENT'],
    [InvalidMountError, 'INVALID_MOUNT'],
    [BackplaneError, 'BACKPLANE'],
  ];

  it('is a CometError, named as its class, with a code that does not change', () => {
    for (const [type, code] of classes) {
      const error = new type('message' as never);
      expect(error).to.be.an.instanceof(CometError).and.an.instanceof(Error).and.include({ code });
      expect(error.name).to.equal(type.name);
      expect(error.stack).to.contain(type.name);
    }
    expect(new Set(classes.map(([, code]) => code)).size).to.equal(classes.length);
  });

  it('is exported, and is in this list', () => {
    const errors = Object.values<unknown>(library).filter(
      (value) => typeof value === 'function' && value.prototype instanceof CometError,
    );
    expect(errors).to.have.members(classes.map(([type]) => type));
  });

  it('ends its message with the remedy', async () => {
    const push = comet({ maxVirtualChannels: 1, maxFrame: 40 });
    const news = push.channels.create({ name: 'news' });
    const closed = comet();
    await closed.close();
    const ended = comet().channels.create();
    ended.end();
    const late = await rejection(ended.pipe([]));
    const calls: readonly [() => unknown, ErrorClass][] = [
      [() => comet({ foo: 1 } as never), InvalidOptionError],
      [() => push.channels.open(''), InvalidChannelNameError],
      [() => push.channels.create({ name: 'news' }), NonUniqueChannelNameError],
      [() => push.channels.create(), TooManyVirtualChannelsError],
      [
        () => {
          throw late;
        },
        ChannelEndedError,
      ],
      [() => closed.activate(), HubClosedError],
      [() => news.write(undefined), InvalidDataError],
      [() => news.write('\uD83D'), InvalidDataError],
      [() => news.write(Buffer.from('x')), InvalidDataError],
      [() => news.write('x', { event: '' }), InvalidEventNameError],
      [() => news.write('x', { event: '\n' }), InvalidEventNameError],
      [() => news.write('x', { event: 'comet:x' }), InvalidEventNameError],
      [() => news.write('x', { event: 'error' }), InvalidEventNameError],
      [() => news.write('x'.repeat(40)), FrameTooLargeError],
    ];
    for (const [call, type] of calls) {
      expect(thrown(call, type).message, type.name).to.match(/^[^:]+.*: .+\.$/s);
    }
  });
});
