import type { IncomingMessage, ServerResponse } from 'node:http';
import { expect } from 'chai';
import fc from 'fast-check';
import { EventClient, RawClient, request } from './support/client.js';
import { SCALE } from './support/scale.js';
import { hub } from './support/server.js';

const REQUESTS = 5000;
// As many as may wait for their turn on one connection.
const AT_A_TIME = 8;

const EXPECTED = ['200', '400', '403', '404', '405', '406'];
const LAST = '/a/route/of/the/application';
const THE_END = 'the end';

// Whatever a target may hold by RFC 9112 §3.2, and more that clients send: all but spaces and controls.
const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 12 }).map((name) => encodeURIComponent(name.toWellFormed())),
  fc.constantFrom(
    'news',
    '%00',
    '%0d%0a',
    '..%2f',
    '%ff',
    '%',
    '__proto__',
    'constructor',
    '%C3%A9',
    'e%CC%81',
    '*',
  ),
  fc.stringMatching(/^[!-~]{0,12}$/),
);
const cursor = fc.oneof(text, fc.stringMatching(/^[0-9a-f]{1,12}-\d{1,17}(@[!-~]{0,5})?$/));
const pair = fc.oneof(
  text.map((id) => `chan_id=${id}`),
  cursor.map((id) => `last_event_id=${id}`),
  text,
);
const asked = fc.record({
  target: fc
    .tuple(
      fc.oneof({ weight: 20, arbitrary: text }, { weight: 1, arbitrary: fc.constant('x'.repeat(7000)) }),
      fc.array(pair, { maxLength: 4 }),
    )
    .map(([path, query]) => `/${path.replace(/^[?/]+/, '')}${query.length > 0 ? `?${query.join('&')}` : ''}`),
  method: fc.constantFrom('HEAD', 'HEAD', 'HEAD', 'HEAD', 'POST', 'OPTIONS', 'DELETE'),
  cursor: fc.option(cursor, { nil: undefined }),
  accept: fc.option(fc.constantFrom('text/event-stream', 'text/html', '*/*;q=0', ',;=,q'), {
    nil: undefined,
  }),
});

describe('Generated requests', () => {
  it(`are all answered, and harm nobody: ${REQUESTS * SCALE} of them`, async function () {
    this.timeout(20_000 * SCALE);
    const { push, server, port } = await hub(
      { authorize: (_request, ids) => !ids.includes('*') },
      (comet) => (request: IncomingMessage, response: ServerResponse) => {
        if (request.url === LAST) response.end(THE_END);
        else comet(request, response);
      },
    );
    const news = push.channels.create({ name: 'news' });
    const witness = await EventClient.open(`${server.url}/news`);
    const statuses = new Map<string, number>();

    for (let done = 0; done < REQUESTS * SCALE; done += AT_A_TIME) {
      const client = await RawClient.connect(port);
      for (const { target, method, cursor, accept } of fc.sample(asked, AT_A_TIME)) {
        const headers = { ...(cursor && { 'Last-Event-ID': cursor }), ...(accept && { Accept: accept }) };
        client.send(request(target, headers, method));
      }
      // They are answered in order: when this is, all are.
      client.send(request(LAST));
      expect(await client.until(THE_END), client.text.slice(-400)).to.equal(true);
      for (const [, status = ''] of client.text.matchAll(/HTTP\/1\.1 (\d{3})/g)) {
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
      }
      await client.reset();
    }
    expect([...statuses.keys()].sort()).to.deep.equal(EXPECTED);
    const answered = [...statuses.values()].reduce((sum, count) => sum + count, 0);
    expect(answered).to.equal((REQUESTS * SCALE * (AT_A_TIME + 1)) / AT_A_TIME);
    expect(await news.send('still here')).to.include({ status: 'success', listeners: 1 });
    expect(await witness.heard(1)).to.deep.equal(['still here']);
    expect(push.inspect().listeners).to.equal(1);
  });
});
