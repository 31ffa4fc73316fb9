import type { IncomingMessage, ServerResponse } from 'node:http';
import { expect } from 'chai';
import fc from 'fast-check';
import type { Browser } from 'playwright-core';
import { told } from '../support/client.js';
import { SCALE } from '../support/scale.js';
import { hub } from '../support/server.js';
import { launch } from './stand.js';

const EVENTS = 2000;
const NAMES = ['said', ' spaced ', 'data: x', 'ä:ö', '\u{1f600}'];

// What a browser would have to take for a field, a line, or the end of an event, if it could be forged.
const piece = fc.oneof(
  fc.constantFrom(
    '\n',
    '\r',
    '\r\n',
    '\n\n',
    '\0',
    '\ufeff',
    ' ',
    ':',
    'data: x',
    'id: 5',
    'event: said',
    'retry: 1',
    '\n\nevent: comet:end',
  ),
  fc.string({ unit: 'binary', maxLength: 8 }),
);
const written = fc.record({
  data: fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join('')),
  event: fc.option(fc.constantFrom(...NAMES), { nil: undefined }),
});

describe("A browser's own EventSource", () => {
  let browser: Browser;

  before(async () => {
    browser = await launch();
  });

  after(() => browser.close());

  it(`reads ${EVENTS * SCALE} generated events as they were written`, async function () {
    this.timeout(20_000 * SCALE);
    const { push, server } = await hub({ log: { frames: EVENTS + 1 } }, (comet) => {
      return (request: IncomingMessage, response: ServerResponse) => {
        if (request.url === '/')
          response.setHeader('Content-Type', 'text/html').end('<!doctype html><title>-</title>');
        else comet(request, response);
      };
    });
    const page = await browser.newPage();
    await page.goto(server.url);
    for (let round = 0; round < SCALE; round += 1) {
      const name = `round ${round}`;
      const channel = push.channels.create<string>({ name });
      const sample = fc.sample(written, EVENTS);
      const joined = told((on) => push.on('join', on));
      const heard = page.evaluate<[string, string][]>(`new Promise((resolve) => {
        const source = new EventSource(${JSON.stringify(`/${encodeURIComponent(name)}`)});
        const events = [];
        for (const type of ${JSON.stringify(['message', ...NAMES])}) {
          source.addEventListener(type, (event) => events.push([event.type, event.data]));
        }
        source.addEventListener('comet:end', () => {
          source.close();
          resolve(events);
        });
      })`);
      await joined;
      for (const { data, event } of sample) channel.write(data, { event });
      channel.end();
      const expected = sample.map(({ data, event }) => [event ?? 'message', data.replace(/\r\n?/g, '\n')]);
      expect(JSON.stringify(await heard)).to.equal(JSON.stringify(expected));
    }
  });
});
