import { expect } from 'chai';
import { createParser } from 'eventsource-parser';
import fc from 'fast-check';
import { isChannelName } from '../lib/channels/channels.js';
import type { Position } from '../lib/core/position.js';
import {
  CometError,
  comet,
  FrameTooLargeError,
  InvalidChannelNameError,
  InvalidDataError,
  InvalidEventNameError,
} from '../lib/index.js';
import {
  checkEventName,
  checkSize,
  encodeBody,
  encodeChannels,
  encodeEnd,
  encodeGap,
  encodeOpening,
  encodeReady,
  encodeRetry,
  encodeStartEvent,
  type Frame,
  HEARTBEAT,
  toFrame,
} from '../lib/sse/frame.js';
import { type Encoded, encode as encodeText, Payload } from '../lib/sse/payload.js';
import { type ReceivedEvent, StrictParser } from './support/parser.js';
import { SCALE } from './support/scale.js';
import { hub } from './support/server.js';

const EPOCH = '9f3ac1';
const PLENTY = 2 ** 20;

/** An event on its whole way to bytes. */
function encodeEvent(
  data: string,
  event: string | undefined,
  position: Position,
  label: string,
  maxFrame: number,
): Frame {
  const body = encodeBody(data, event);
  checkSize(body, position, label, maxFrame);
  return toFrame(body, position, label);
}

interface Written {
  readonly channel: string;
  readonly event: string | undefined;
  readonly data: string;
}

// What could end a line, a field, an event or a string too early, or pass for a field of its own.
const snippet = fc.constantFrom(
  ...['\n', '\r', '\r\n', '\n\n', '\r\r', '\n\r', '\r\n\r\n', '\0', '\uFEFF', ' ', '  ', '\t', '\v', '\f'],
  ...[':', ': ', ':comment', 'data', 'data:', 'data: x', 'id: 5', 'id:\0', 'event: y', 'retry: 1', '@', '-'],
  ...['\n\nevent: comet:end\ndata: {}\n\n', '\r\rid: 5\r', '\n:ok\n', '\nretry: 0', 'comet:', 'comet:open'],
  ...['\x7f', '\x85', '\u2028', '\u2029', '\uD83D', '\uDE00', '\u{1F600}', '%', '%0A', '+', '/', '"', '\\n'],
  ...['open', 'error'],
  ...['__proto__', 'constructor', 'é', 'e\u0301', '\u202E', '\uFFFD', '\uFFFE', '\x1b[31m'],
);
const codeUnit = fc.nat({ max: 0xffff }).map((unit) => String.fromCharCode(unit));
const codePoint = fc.nat({ max: 0x10ffff }).map((point) => String.fromCodePoint(point));
const textOf = (part: fc.Arbitrary<string>) =>
  fc.array(part, { maxLength: 6 }).map((parts) => parts.join(''));
const anything = fc.oneof(textOf(snippet), textOf(fc.oneof(snippet, codePoint)), textOf(codeUnit));
// Most of what is hostile has no place in a name: most names are mended, or hardly anything would be written.
const name = fc.oneof(
  { weight: 4, arbitrary: anything.map((text) => text.replace(/\p{Cc}/gu, '').toWellFormed() || 'x') },
  { weight: 1, arbitrary: anything },
);
const written: fc.Arbitrary<Written> = fc.record({
  channel: name,
  event: fc.option(name, { nil: undefined }),
  data: fc.oneof({ weight: 4, arbitrary: anything.map((text) => text.toWellFormed()) }, anything),
});
const cuts = fc.array(fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 200 })), {
  minLength: 1,
});

/** The error by which a write has to be refused, if it has to be: said anew, not by the code that is tested. */
function refusal({ channel, event, data }: Written): typeof CometError | undefined {
  if (channel === '' || channel.length > 256 || /\p{Cc}|\p{Cs}/u.test(channel))
    return InvalidChannelNameError;
  if (event === '' || (event !== undefined && /^comet:|^open$|^error$|[\r\n\0]|\p{Cs}/u.test(event))) {
    return InvalidEventNameError;
  }
  return /\p{Cs}/u.test(data) ? InvalidDataError : undefined;
}

const toLf = (text: string) => text.replaceAll('\r\n', '\n').replaceAll('\r', '\n');

function received({ channel, event, data }: Written, epoch: string, seq: number): ReceivedEvent {
  return { type: event ?? 'message', data: toLf(data), lastEventId: `${epoch}-${seq}@${encoded(channel)}` };
}

// Percent-encoded to the letter of its definition: every byte that is not an unreserved character.
const ESCAPED = Array.from({ length: 256 }, (_, byte) => {
  const char = String.fromCharCode(byte);
  return /[A-Za-z0-9_.!~*'()-]/.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
});
const encoded = (text: string) => Array.from(Buffer.from(text), (byte) => ESCAPED[byte]).join('');

function* pieces(bytes: Buffer, sizes: readonly number[]): IterableIterator<Buffer> {
  for (let start = 0, turn = 0; start < bytes.length; turn += 1) {
    const end = start + (sizes[turn % sizes.length] ?? 1);
    yield bytes.subarray(start, end);
    start = end;
  }
}

function parsed(bytes: Buffer, sizes: readonly number[] = [bytes.length]): StrictParser {
  const parser = new StrictParser();
  for (const piece of pieces(bytes, sizes)) parser.feed(piece);
  parser.end();
  return parser;
}

/** What eventsource-parser reads. */
function parsedByOther(bytes: Buffer, sizes: readonly number[]): ReceivedEvent[] {
  const events: ReceivedEvent[] = [];
  const parser = createParser({
    onEvent: ({ event = 'message', data, id = '' }) => events.push({ type: event, data, lastEventId: id }),
    onError: (error) => expect.fail(`eventsource-parser: ${error.message}`),
    onRetry: (retry) => expect.fail(`eventsource-parser: retry ${retry}`),
  });
  const decoder = new TextDecoder();
  for (const piece of pieces(bytes, sizes)) parser.feed(decoder.decode(piece, { stream: true }));
  return events;
}

function encode(data: string, event?: string): string {
  return encodeEvent(data, event, { epoch: EPOCH, seq: 1 }, 'news', PLENTY).bytes.toString();
}

describe('A frame', () => {
  const { channels } = comet();
  let seq = 0;

  /** The frame of a write, or the error that refused it. */
  function write({ channel, event, data }: Written): Frame | CometError {
    try {
      if (!isChannelName(channel)) channels.create({ name: channel });
      if (event !== undefined) checkEventName(event);
      return encodeEvent(data, event, { epoch: EPOCH, seq: seq + 1 }, encodeURIComponent(channel), PLENTY);
    } catch (error) {
      if (error instanceof CometError) return error;
      throw error;
    }
  }

  it('is read as it was written, or refused, and forges nothing: 100,000 of them, cut anywhere', () => {
    let generated = 0;
    let refused = 0;
    const batch = fc.array(fc.tuple(written, fc.boolean()), { minLength: 25, maxLength: 25 });
    fc.assert(
      fc.property(batch, cuts, (writes, sizes) => {
        const parts: Encoded[] = [];
        const expected: ReceivedEvent[] = [];
        let heartbeats = 0;
        for (const [each, beats] of writes) {
          const frame = write(each);
          const refusedBy = refusal(each);
          generated += 1;
          if (frame instanceof CometError || refusedBy !== undefined) {
            if (frame.constructor !== refusedBy) expect.fail(`${refusedBy?.name}: ${JSON.stringify(each)}`);
            refused += 1;
            continue;
          }
          seq += 1;
          parts.push(frame.bytes);
          expected.push(received(each, EPOCH, seq));
          if (beats) {
            parts.push(HEARTBEAT);
            heartbeats += 1;
          }
        }
        const stream = new Payload(parts, seq % 2 === 0).bytes;
        const { events, comments, retries, faults } = parsed(stream, sizes);
        // As text: there is no lone surrogate in it, and chai takes twenty times as long to compare it in depth.
        const all = JSON.stringify(expected);
        expect(JSON.stringify(events)).to.equal(all);
        expect(JSON.stringify(parsedByOther(stream, sizes))).to.equal(all);
        expect(comments).to.deep.equal(Array(heartbeats).fill(''));
        expect([...retries, ...faults]).to.deep.equal([]);
      }),
      { numRuns: 5300 * SCALE },
    );
    expect(generated - refused).to.be.at.least(100_000 * SCALE);
    expect(refused).to.be.at.least(1000);
  }).timeout(60_000 * SCALE);

  it('says its id, its name and its data, each as a field with a space', () => {
    const position = { epoch: EPOCH, seq: 1026 };
    const frame = encodeEvent('line one\nline two', 'said', position, 'chat', PLENTY);
    expect(frame.bytes.toString()).to.equal(
      'id: 9f3ac1-1026@chat\nevent: said\ndata: line one\ndata: line two\n\n',
    );
    expect(frame.seq).to.equal(1026);
  });

  it('has no event field where the event has no name', () => {
    expect(encode('first light')).to.equal('id: 9f3ac1-1@news\ndata: first light\n\n');
  });

  it('carries an empty string, which arrives as an empty message', () => {
    expect(encode('')).to.equal('id: 9f3ac1-1@news\ndata: \n\n');
    const empty = { type: 'message', data: '', lastEventId: '9f3ac1-1@news' };
    expect(parsed(Buffer.from(encode(''))).events).to.deep.equal([empty]);
  });

  it('splits data at CRLF, CR and LF, and nowhere else', () => {
    expect(encode('a\r\nb\rc\nd\n\re')).to.contain('data: a\ndata: b\ndata: c\ndata: d\ndata: \ndata: e\n\n');
    expect(encode('a\u2028b\u2029c\x85d\ve\ff')).to.contain('data: a\u2028b\u2029c\x85d\ve\ff\n\n');
    expect(encode('\n')).to.contain('data: \ndata: \n\n');
  });

  it('keeps the spaces at both ends of the data and of the name', () => {
    const [event] = parsed(Buffer.from(encode('  data  ', ' name '))).events;
    expect(event).to.include({ type: ' name ', data: '  data  ' });
  });

  it('may have maxFrame bytes, and not one more', () => {
    const frame = (maxFrame: number) => encodeEvent('é', undefined, { epoch: EPOCH, seq: 1 }, 'a', maxFrame);
    const { length } = Buffer.from('id: 9f3ac1-1@a\ndata: é\n\n');
    expect(frame(length).bytes.length).to.equal(length);
    expect(() => frame(length - 1))
      .to.throw(FrameTooLargeError)
      .that.includes({ bytes: length, limit: length - 1 });
  });
});

describe('What else is on the wire', () => {
  const opening = { id: '9f3ac1-1024', listener: '6c0b', channels: ['news', 'chat'], waiting: [], gaps: [] };
  const position = { epoch: EPOCH, seq: 1024 };

  it('begins with a comment, the time to wait, and the open event with the position as its id', () => {
    expect(encodeOpening({ ...opening, retry: 2310, missing: [] })).to.equal(
      ':ok\nretry: 2310\nid: 9f3ac1-1024\nevent: comet:open\n' +
        'data: {"protocol":1,"listener":"6c0b","channels":["news","chat"],"waiting":[],"recovered":true,"gaps":[]}\n\n',
    );
  });

  it('says comet:end at once for each name that can not wait', () => {
    const bytes = encodeOpening({ ...opening, retry: 1, missing: ['a', 'b'] });
    expect(bytes.slice(bytes.indexOf('\n\n') + 2)).to.equal(
      'event: comet:end\ndata: {"channel":"a"}\n\nevent: comet:end\ndata: {"channel":"b"}\n\n',
    );
  });

  it('writes its own events in ASCII, whatever a channel is called', () => {
    const text = encodeOpening({ ...opening, retry: 1, missing: ['\u{1F600}'], channels: ['\xe4'] });
    expect(text).to.include('"channels":["\\u00e4"]').and.include('"channel":"\\ud83d\\ude00"');
    expect(encodeEnd('\x7f\x80', position, 'x').bytes.toString()).to.include('"channel":"\x7f\\u0080"');
  });

  it('ends a channel by comet:end, with the position of the end', () => {
    const { seq, bytes } = encodeEnd('news', position, 'news');
    expect(bytes.toString()).to.equal('id: 9f3ac1-1024@news\nevent: comet:end\ndata: {"channel":"news"}\n\n');
    expect(seq).to.equal(1024);
  });

  it('gives an event of a start the cursor that the client came with, and nothing else', () => {
    const frame = toFrame(encodeBody('a@b\nc', 'said'), position, 'r%40');
    expect(encodeStartEvent(frame, '9f3ac1-7!').toString()).to.equal(
      'id: 9f3ac1-7!@r%40\nevent: said\ndata: a@b\ndata: c\n\n',
    );
  });

  it('says that starts are complete, that something is lost, and what is carried', () => {
    expect(encodeReady(position).toString()).to.equal('id: 9f3ac1-1024\nevent: comet:ready\ndata: {}\n\n');
    expect(encodeGap(['a', '\xe4'], 'gap-0!').toString()).to.equal(
      'id: gap-0!\nevent: comet:gap\ndata: {"channels":["a","\\u00e4"]}\n\n',
    );
    expect(encodeChannels(['a'], ['b']).toString()).to.equal(
      'event: comet:channels\ndata: {"channels":["a"],"waiting":["b"]}\n\n',
    );
  });

  it('beats with a colon and one newline, never with a blank line', () => {
    expect(HEARTBEAT.toString()).to.equal(':\n');
  });

  it('changes the time to wait by one line, without an event', () => {
    expect(encodeRetry(250).toString()).to.equal('retry: 250\n');
  });

  it('is read as it was written whatever the channels are called', () => {
    const valid = name.filter((text) => refusal({ channel: text, event: undefined, data: '' }) === undefined);
    const names = fc.array(valid, { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(names, names, fc.nat(), cuts, (carried, missing, retry, sizes) => {
        const [ended = ''] = carried;
        const open = encodeOpening({
          ...opening,
          retry,
          channels: carried,
          waiting: carried,
          gaps: carried,
          missing,
        });
        const { events, comments, retries, faults } = parsed(
          new Payload([open, HEARTBEAT, encodeEnd(ended, position, 'x').bytes, encodeRetry(5)], false).bytes,
          sizes,
        );
        expect(events.map(({ type }) => type)).to.deep.equal([
          'comet:open',
          ...Array(missing.length + 1).fill('comet:end'),
        ]);
        const [first, ...others] = events.map(({ data }) => JSON.parse(data));
        expect(first.channels).to.deep.equal(carried);
        expect(others.map(({ channel }) => channel)).to.deep.equal([...missing, ended]);
        expect(new Set(events.map(({ lastEventId }) => lastEventId))).to.deep.equal(
          new Set(['9f3ac1-1024', '9f3ac1-1024@x']),
        );
        expect(comments).to.deep.equal(['ok', '']);
        expect(retries).to.deep.equal([retry, 5]);
        expect(faults).to.deep.equal([]);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('A stream', () => {
  it('carries 2,000 events through a server as they were written, those that were refused left out', async () => {
    const { push, server } = await hub();
    const { epoch } = push.inspect();
    const writes = fc.array(written, { minLength: 200, maxLength: 200 });
    const property = fc.asyncProperty(writes, async (all) => {
      // What a request line may hold is bounded, so only the first few channels are listened to.
      const named = all.filter((each) => refusal({ ...each, event: undefined, data: '' }) === undefined);
      const ids = [...new Set(named.map(({ channel }) => channel))].slice(0, 20);
      const own = ids.map((id) => push.channels.create({ name: id }));
      const query = new URLSearchParams(ids.map((id): [string, string] => ['chan_id', id]));
      // Not its body alone: fetch cancels that of a response that is collected before anybody has read of it.
      const response = await fetch(`${server.url}/?${query}`);

      const expected: ReceivedEvent[] = [];
      try {
        for (const [index, { channel, event, data }] of all.entries()) {
          const to = own[index % own.length]!;
          const each = { channel: to.id, event, data };
          const refusedBy = refusal(each);
          if (refusedBy !== undefined) expect(() => to.write(data, { event })).to.throw(refusedBy);
          else if (channel.length % 3 > 0) to.write(data, { event });
          else expect(await to.send(data, { event })).to.include({ status: 'success', delivered: 1 });
          if (refusedBy === undefined) expected.push(received(each, epoch, push.inspect().seq));
        }
      } finally {
        // Whatever became of it: the next attempt makes channels of the same names.
        for (const channel of own) channel.end();
      }

      const parser = new StrictParser();
      for await (const piece of response.body!) parser.feed(piece);
      parser.end();
      const [open, ...events] = parser.events;
      expect(open?.type).to.equal('comet:open');
      expect(events.splice(-own.length).map(({ type }) => type)).to.deep.equal(own.map(() => 'comet:end'));
      expect(events).to.deep.equal(expected);
      expect(parser.comments).to.deep.equal(['ok']);
      expect(parser.retries).to.have.length(1);
      expect(parser.faults).to.deep.equal([]);
    });
    await fc.assert(property, { numRuns: 10 });
  });
});

describe('The parser of these tests', () => {
  const read = (text: string) => {
    const { events } = parsed(Buffer.from(text));
    return events.map(({ type, data, lastEventId }) => [type, data, lastEventId]);
  };

  // The examples of WHATWG HTML §9.2.6.
  it('joins the lines of data, and dispatches at a blank line only', () => {
    expect(read('data: YHOO\ndata: +2\ndata: 10\n\n')).to.deep.equal([['message', 'YHOO\n+2\n10', '']]);
    expect(read('data\n\ndata\ndata\n\ndata:')).to.deep.equal([
      ['message', '', ''],
      ['message', '\n', ''],
    ]);
  });

  it('takes off one space and no more', () => {
    expect(read('data:test\n\ndata: test\n\ndata:  test\n\n').map(([, data]) => data)).to.deep.equal([
      'test',
      'test',
      ' test',
    ]);
  });

  it('keeps the last event id until another is set, with or without data', () => {
    expect(read(': test stream\n\ndata: first\nid: 1\n\ndata:second\nid\n\ndata:  third\n\n')).to.deep.equal([
      ['message', 'first', '1'],
      ['message', 'second', ''],
      ['message', ' third', ''],
    ]);
    expect(read('id: 1\n\ndata: a\n\nid: 2\0\ndata: b\n\n').map(([, , id]) => id)).to.deep.equal(['1', '1']);
  });

  it('reads the same however the bytes are cut, and whatever ends the lines', () => {
    const text = '\uFEFF:é\nid: 1\nevent: \u{1F600}\ndata: a\ndata: \uFEFFb\nretry: 10\n\ndata: c\n\n';
    for (const end of ['\n', '\r', '\r\n']) {
      const bytes = Buffer.from(text.replaceAll('\n', end));
      for (let size = 1; size < bytes.length; size += 1) {
        const { events, comments, retries, faults } = parsed(bytes, [size]);
        expect(events).to.deep.equal([
          { type: '\u{1F600}', data: 'a\n\uFEFFb', lastEventId: '1' },
          { type: 'message', data: 'c', lastEventId: '1' },
        ]);
        expect({ comments, retries, faults }).to.deep.equal({
          comments: ['é'],
          retries: [10],
          faults: ['BOM'],
        });
      }
    }
  });

  it('finds fault with what a well-behaved server never sends', () => {
    const bad = ['foo: 1\n', 'data\n\n', 'event: \ndata: a\n\n', 'id: a\0\n', 'retry: 1s\n', ':\n\n'];
    for (const text of [...bad, 'data:a\n\n', 'data: a', 'data: a\n', 'id: 1\n']) {
      expect(parsed(Buffer.from(text)).faults, JSON.stringify(text)).not.to.deep.equal([]);
    }
    expect(parsed(Buffer.from([0x3a, 0xff, 0x0a])).faults).to.deep.equal(['malformed UTF-8']);
    expect(parsed(Buffer.from(':\nretry: 5\n')).faults).to.deep.equal([]);
  });
});

describe('What goes out in one write', () => {
  const parts = ['id: 1\ndata: x\n\n', 'data: é\n\n', `data: ${'x'.repeat(2000)}\n\n`, ':\n'];
  const combinations = parts.flatMap((one) => [[one], ...parts.map((other) => [one, other])]);

  for (const isShared of [true, false]) {
    it(`is one chunk, and the same bytes without it, ${isShared ? 'for many streams' : 'for one'}`, () => {
      for (const texts of combinations) {
        const text = texts.join('');
        const payload = new Payload(
          texts.map((each) => encodeText(each)),
          isShared,
        );
        const chunk =
          typeof payload.chunk === 'string' ? Buffer.from(payload.chunk, 'latin1') : payload.chunk;
        const size = Buffer.byteLength(text).toString(16);
        expect(chunk.toString()).to.equal(`${size}\r\n${text}\r\n`);
        expect(payload.bytes.toString()).to.equal(text);
      }
    });
  }

  it('is a buffer that they share where there are many streams', () => {
    expect(new Payload([encodeText('data: x\n\n')], true).chunk).to.be.instanceOf(Buffer);
  });

  it('is encoded as a chunk of its own, which is not copied, but where it is short and ASCII', () => {
    expect(encodeText('x'.repeat(1024))).to.be.a('string');
    for (const text of ['é', 'x'.repeat(1025)]) {
      const block = encodeText(text) as Exclude<Encoded, string>;
      expect(block.toString()).to.equal(text);
      expect(block.chunk.buffer.byteLength).to.equal(block.chunk.length);
      const { chunk, bytes } = new Payload([block], true);
      expect(chunk).to.equal(block.chunk);
      expect(bytes.toString()).to.equal(text);
    }
  });
});
