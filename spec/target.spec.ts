import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { expect } from 'chai';
import fc from 'fast-check';
import { acceptsEventStream, ELSEWHERE, MALFORMED, type Target, targetOf } from '../lib/http/target.js';
import { SCALE } from './support/scale.js';

const CURSOR = { epoch: '9f3ac1', seq: 1024 };

function read(url: string, lastEventId?: string): ReturnType<typeof targetOf> {
  const request = new IncomingMessage(new Socket());
  request.url = url;
  if (lastEventId !== undefined) request.headers['last-event-id'] = lastEventId;
  return targetOf(request);
}

function ids(url: string): readonly string[] | symbol {
  const target = read(url);
  return typeof target === 'symbol' ? target : target.channelIds;
}

function target(url: string, lastEventId?: string): Target {
  const found = read(url, lastEventId);
  if (typeof found === 'symbol') throw new Error(String(found));
  return found;
}

function cursor(url: string, lastEventId?: string): Target['cursor']['position'] {
  return target(url, lastEventId).cursor.position;
}

describe('The channels of a request', () => {
  const urls: Record<string, readonly string[]> = {
    '/': [],
    '': [],
    '/?': [],
    '?': [],
    '/news': ['news'],
    '/news/': ['news'],
    '/news?': ['news'],
    '/news#top': ['news'],
    '/?chan_id=news': ['news'],
    '?chan_id=news': ['news'],
    '/?chan_id=news&chan_id=chat': ['news', 'chat'],
    '/?chan_id=news#&chan_id=chat': ['news'],
    '/?other=x&chan_id=news&&=&x': ['news'],
    '/?chan_idx=news&xchan_id=x&CHAN_ID=x': [],
    '/?chan_id': [''],
    '/?chan_id=': [''],
    '/?chan_id=a=b=c': ['a=b=c'],
    '/?chan_id=a?b': ['a?b'],
    '/?chan_id=a/b': ['a/b'],
    '/news?x/../y/': ['news'],
    // A path and a query add up, each id once, in the order of their first mention.
    '/news?chan_id=chat': ['news', 'chat'],
    '/news?chan_id=chat&chan_id=news&chan_id=chat': ['news', 'chat'],
    '/a%62?chan_id=ab&chan_id=%61b': ['ab'],
    // A plus is a space in a query, and a plus in a path.
    '/a+b': ['a+b'],
    '/a%2Bb': ['a+b'],
    '/a%20b': ['a b'],
    '/?chan_id=a+b': ['a b'],
    '/?chan_id=a%2Bb': ['a+b'],
    '/?chan_id=a%20b': ['a b'],
    '/a%2Fb': ['a/b'],
    '/a%2fb/': ['a/b'],
    '/%00': ['\0'],
    '/?chan_id=%00': ['\0'],
    '/%3Fchan_id=x': ['?chan_id=x'],
    '/%25': ['%'],
    '/%2525': ['%25'],
    '/%F0%9F%98%80': ['\u{1F600}'],
    '/__proto__?chan_id=constructor': ['__proto__', 'constructor'],
    // The absolute form (RFC 9112 §3.2.2).
    'http://localhost/news': ['news'],
    'http://localhost:8080/news?chan_id=chat': ['news', 'chat'],
    'HTTPS://user@localhost/news/': ['news'],
    'http://[::1]:8080/news': ['news'],
    'http://localhost': [],
    'http://localhost?chan_id=news': ['news'],
    '/http:%2F%2Flocalhost%2Fnews': ['http://localhost/news'],
  };
  for (const [url, expected] of Object.entries(urls)) {
    it(`of ${url || 'an empty target'} are ${JSON.stringify(expected)}`, () => {
      expect(ids(url)).to.deep.equal(expected);
    });
  }

  for (const url of ['/a/b', '/a//', '//a', '/a/b/', '/a/b?chan_id=news', 'http://localhost/a/b']) {
    it(`of ${url} are elsewhere: it has two segments`, () => {
      expect(ids(url)).to.equal(ELSEWHERE);
    });
  }

  const malformed = ['%', '%4', '%zz', 'a%', '%E0%A4%A', '%C0%80', '%ED%A0%BD', '%FF', '%u0041'];
  for (const text of malformed) {
    it(`are malformed where one is ${text}`, () => {
      expect(ids(`/${text}`)).to.equal(MALFORMED);
      expect(ids(`/?chan_id=news&chan_id=${text}`)).to.equal(MALFORMED);
      expect(ids(`/news?chan_id=${text}`)).to.equal(MALFORMED);
    });
  }

  it('are not malformed by a parameter that is not ours', () => {
    expect(ids('/news?utm=%')).to.deep.equal(['news']);
    expect(ids('/news?%=x')).to.deep.equal(['news']);
  });

  it('are what encodeURIComponent and URLSearchParams made of them', () => {
    const text = fc.string({ unit: 'binary', minLength: 1 });
    fc.assert(
      fc.property(text, fc.array(text), (first, others) => {
        const expected = [...new Set([first, ...others])];
        const query = new URLSearchParams(others.map((id): [string, string] => ['chan_id', id]));
        expect(ids(`/${encodeURIComponent(first)}?${query}`)).to.deep.equal(expected);
      }),
      { numRuns: 1000 * SCALE },
    );
  });
});

describe('The cursor of a request', () => {
  it('is undefined for a newcomer, whose header or parameter may be empty', () => {
    expect(cursor('/news')).to.equal(undefined);
    expect(cursor('/news', '')).to.equal(undefined);
    expect(cursor('/news?last_event_id=')).to.equal(undefined);
    expect(cursor('/news?last_event_id', '')).to.equal(undefined);
  });

  it('comes from the header, or from the query', () => {
    expect(cursor('/news', '9f3ac1-1024@news')).to.deep.equal(CURSOR);
    expect(cursor('/news?last_event_id=9f3ac1-1024@news')).to.deep.equal(CURSOR);
    expect(cursor('/news?last_event_id=9f3ac1%2D1024%40a%2520b')).to.deep.equal(CURSOR);
    expect(cursor('/news?last_event_id=9f3ac1-1024', '')).to.deep.equal(CURSOR);
  });

  it("comes from the header where both are there: the query is still that of the client's first request", () => {
    expect(cursor('/news?last_event_id=9f3ac1-1', '9f3ac1-1024')).to.deep.equal(CURSOR);
    expect(cursor('/news?last_event_id=9f3ac1-1024', 'garbage')).to.equal(null);
  });

  it('has nothing to say of the channels, whatever stands behind @', () => {
    expect(target('/news', '9f3ac1-1024@chat').channelIds).to.deep.equal(['news']);
    expect(cursor('/news', '9f3ac1-1024@chat')).to.deep.equal(CURSOR);
  });

  const unreadable = ['garbage', '5', '9f3ac1-', '9f3ac1-1024 ', '9f3ac1-1024, 9f3ac1-1024', '9f3ac1-é'];
  for (const text of [
    ...unreadable,
    '\xe9\xff-1',
    'x'.repeat(15_000),
    '1'.repeat(15_000),
    '-'.repeat(15_000),
  ]) {
    it(`is null, which is a gap and no error, where it is ${text.slice(0, 30)}`, () => {
      expect(cursor('/news', text)).to.equal(null);
      expect(cursor(`/news?last_event_id=${encodeURIComponent(text)}`)).to.equal(null);
    });
  }

  for (const text of ['%', '%zz', '%FF', '%E0%A4%A']) {
    it(`is null, which is a gap and no error, where the query says it as ${text}`, () => {
      expect(target(`/news?last_event_id=${text}`).channelIds).to.deep.equal(['news']);
      for (const name of ['last_event_id', 'lastEventId']) {
        expect(cursor(`/news?${name}=${text}`)).to.equal(null);
      }
    });
  }

  it('comes from the header, even where the query is malformed', () => {
    expect(cursor('/news?last_event_id=%', '9f3ac1-1024')).to.deep.equal(CURSOR);
  });

  it('comes from lastEventId or Last-Event-ID in the query, before last_event_id', () => {
    for (const name of ['lastEventId', 'Last-Event-ID']) {
      expect(cursor(`/news?last_event_id=9f3ac1-1&${name}=9f3ac1-1024@news`)).to.deep.equal(CURSOR);
      expect(cursor(`/news?${name}=9f3ac1-1`, '9f3ac1-1024')).to.deep.equal(CURSOR);
      expect(cursor(`/news?last_event_id=9f3ac1-1024&${name}=`)).to.deep.equal(CURSOR);
    }
  });

  it('is that of a return where the same URL was open before', () => {
    expect(target('/news', '9f3ac1-1024').isReturn).to.equal(true);
    expect(target('/news', 'new!').isReturn).to.equal(true);
    expect(target('/news?lastEventId=9f3ac1-1024').isReturn).to.equal(true);
    expect(target('/news?last_event_id=9f3ac1-1024').isReturn).to.equal(false);
    expect(target('/news').isReturn).to.equal(false);
  });

  it('is that of the query again where the first start was not complete', () => {
    expect(cursor('/news?last_event_id=9f3ac1-1024', 'new!@news')).to.deep.equal(CURSOR);
    expect(cursor('/news', 'new!@news')).to.equal(undefined);
  });
});

describe('The new channels of a request', () => {
  const url = '/a?chan_id=b&new_chan_id=c&new_chan_id=b&last_event_id=9f3ac1-1';

  it('stand beside those that the client carried: a name that is both was carried', () => {
    const { channelIds, newIds } = target(url);
    expect(channelIds).to.deep.equal(['a', 'b', 'c']);
    expect([...newIds]).to.deep.equal(['c']);
  });

  it('were carried once the stream was open', () => {
    expect([...target(url, '9f3ac1-1024').newIds]).to.deep.equal([]);
    expect([...target(url, '9f3ac1-1024!@a').newIds]).to.deep.equal([]);
    expect([...target(`${url}&lastEventId=9f3ac1-1024`).newIds]).to.deep.equal([]);
  });

  it('are new again where their start was not complete', () => {
    expect([...target(url, '9f3ac1-1+!@c').newIds]).to.deep.equal(['c']);
    expect([...target(url, 'new!').newIds]).to.deep.equal(['c']);
  });

  it('need a cursor in the query', () => {
    expect(target(url).lacksCursor).to.equal(false);
    expect(target('/a?new_chan_id=c').lacksCursor).to.equal(true);
    expect(target('/a?new_chan_id=c', '9f3ac1-1').lacksCursor).to.equal(true);
    expect(target('/a?new_chan_id=c&last_event_id=').lacksCursor).to.equal(true);
    expect(target('/a?new_chan_id=a').lacksCursor).to.equal(false);
    expect(read('/a?new_chan_id=%')).to.equal(MALFORMED);
  });
});

describe('An Accept header', () => {
  const lets = [
    ...[
      '',
      ' ',
      '*/*',
      'text/*',
      'text/event-stream',
      'TEXT/Event-Stream',
      'Text/*',
      '  text/event-stream  ',
    ],
    ...[
      'text/html,text/event-stream',
      'text/html , */*',
      'text/html,\ttext/event-stream',
      ',text/event-stream,',
    ],
    ...[
      'text/event-stream;charset=utf-8',
      'text/event-stream; charset=utf-8; q=1',
      'text/event-stream;q=1.000',
    ],
    ...['text/event-stream;q=0.001', 'text/event-stream ; q=0.5', 'text/event-stream;Q=0.5', '*/*;q=0.1'],
    // The most specific range decides, wherever it stands.
    ...['text/*;q=0,text/event-stream', '*/*;q=0, text/event-stream;q=0.1', 'text/event-stream, text/*;q=0'],
    ...['*/*;q=0,text/*', 'text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2'],
    'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8',
  ];
  for (const accept of lets) {
    it(`${JSON.stringify(accept)} lets an event stream through`, () => {
      expect(acceptsEventStream(accept)).to.equal(true);
    });
  }

  const excludes = [
    ...['text/html', 'application/json', 'application/*', 'text/event', 'text/event-streams', 'event-stream'],
    ...[
      'text/event-stream;q=0',
      'text/event-stream; q=0',
      'text/event-stream;Q=0',
      'text/event-stream;q=0.000',
    ],
    ...[
      'text/event-stream ;\tq=0',
      'text/event-stream;charset=utf-8;q=0',
      'text/*;q=0',
      '*/*;q=0',
      'TEXT/*;Q=0',
    ],
    ...['text/event-stream;q=0, */*', '*/*, text/event-stream;q=0', 'text/*, text/event-stream;q=0'],
    ...['*/*, text/*;q=0', 'text/*;q=0,*/*', 'text/html, text/plain', 'text/event-stream;q=x'],
  ];
  for (const accept of excludes) {
    it(`${JSON.stringify(accept)} excludes an event stream`, () => {
      expect(acceptsEventStream(accept)).to.equal(false);
    });
  }

  it('that is not there lets an event stream through', () => {
    expect(acceptsEventStream(undefined)).to.equal(true);
  });
});
