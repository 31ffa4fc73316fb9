import { expect } from 'chai';
import type { Browser } from 'playwright-core';
import { Demo, launch, Visit } from './stand.js';

// What a browser says of a connection that was cut, and of an answer that is no success.
const CUT = /ERR_(INCOMPLETE_CHUNKED_ENCODING|CONNECTION_(REFUSED|RESET|CLOSED)|EMPTY_RESPONSE)/;
const UNAVAILABLE = /\b503\b/;
const CONFLICT = /\b(400|409)\b/;

describe('The dashboard in a browser', function () {
  this.timeout(30_000);

  // Clients that do not read are closed soon; the rest is as it would be without.
  const demo = new Demo({ STALL: '1200' });
  let browser: Browser;
  // One page for all: it is to live through everything that is done to the server here.
  let visit: Visit;

  before(async () => {
    [browser] = await Promise.all([launch(), demo.start()]);
    visit = await Visit.open(browser, demo);
  });
  beforeEach(() => visit.begin());
  afterEach(async function () {
    // A test that failed leaves a page that tells nothing about the next.
    if (this.currentTest?.state !== 'failed') return;
    await demo.post('trouble/away');
    await visit.page.context().close();
    visit = await Visit.open(browser, demo);
  });
  after(async () => {
    await Promise.all([browser?.close(), demo.kill()]);
  });

  it('subscribes to two channels on one stream, writes, and reads the outcome', async () => {
    const { page } = visit;
    for (const channel of ['machine', 'tail']) await page.getByLabel(`Listen to ${channel}`).uncheck();

    await page.getByPlaceholder('Name, or empty').fill('news');
    await page.getByRole('button', { name: 'Create channel' }).click();
    await visit.says('#create-said', 'news was created');
    await visit.says('#stream-text', 'Listening to 2 channels');
    // The stream without it is closed once the one with it is there.
    await visit.says('#happened li', '1 listener of chat: closed');
    await visit.says('#total-listeners', /^1$/);

    await visit.showChannel('news');
    await page.getByLabel('Event name').fill('headline');
    await page.getByLabel('JSON').check();
    await page.getByLabel('Data').fill('{ "magnitude": -2 }');
    await page.keyboard.press('Control+Enter');
    await visit.says('#verdict', 'Success');
    expect(await visit.text('#outcome-listeners')).to.equal('1');
    expect(await visit.text('#outcome-delivered')).to.equal('1');
    await visit.says('#written li', /headline.*1 of 1.*\{"magnitude":-2\}/s);
    await visit.says('#listeners tr', /socket.*live/s);

    await page.getByRole('link', { name: 'Overview' }).click();
    await visit.showChannel('chat');
    await page.getByLabel('Text').check();
    await page.getByLabel('Event name').fill('');
    await page.getByLabel('Data').fill('first light');
    await page.getByRole('button', { name: 'Write', exact: true }).click();
    await visit.says('#written li', /1 of 1.*first light/s);

    await page.getByRole('link', { name: 'Overview' }).click();
    expect(await visit.heard('news')).to.deep.equal(['{"magnitude":-2}']);
    expect(await visit.heard('chat')).to.deep.equal(['first light']);
    for (const channel of ['machine', 'tail']) await page.getByLabel(`Listen to ${channel}`).check();
    visit.faultless();
  });

  it('shows an error where it belongs', async () => {
    const { page } = visit;
    await page.getByPlaceholder('Name, or empty').fill('chat');
    await page.getByRole('button', { name: 'Create channel' }).click();
    await visit.says('#create-said', 'NON_UNIQUE_CHANNEL_NAME');
    expect(await page.locator('#create input').getAttribute('aria-invalid')).to.equal('true');

    // A fresh id.
    await page.getByPlaceholder('Name, or empty').fill('');
    await page.getByRole('button', { name: 'Create channel' }).click();
    await visit.says('#create-said', 'was created');
    const id = (await visit.text('#create-said')).split(' ')[0]!;

    await visit.showChannel(id);
    await page.getByLabel('JSON').check();
    await page.getByLabel('Data').fill('{');
    await page.getByRole('button', { name: 'Write', exact: true }).click();
    await visit.says('#data-error', 'Not JSON');
    await page.getByLabel('Text').check();
    await page.getByLabel('Event name').fill('comet:open');
    await page.getByRole('button', { name: 'Write', exact: true }).click();
    await visit.says('#event-error', 'comet:');
    expect(await page.locator('#write [name=event]').getAttribute('aria-invalid')).to.equal('true');

    await page.getByRole('button', { name: 'End channel' }).click();
    await page.getByRole('button', { name: 'Yes' }).click();
    await visit.says('#channel-said', 'has ended');
    await page.locator('#missing').waitFor();
    visit.faultless(CONFLICT);
  });

  it('turns the next outcome into a failure with its reason, when a client is reset', async () => {
    const { page } = visit;
    await page.getByRole('button', { name: 'Add 10 listeners' }).click();
    await visit.says('#clients-count', '10 listening');
    await page.getByRole('button', { name: 'One is reset' }).click();

    // Ten that listen, this page, and the one that was reset: which is counted, and not delivered to.
    await visit.says('#trouble-said', /still counted 12; the outcome: 11 of 12 delivered, 1 (error|closed)/);
    await visit.says('#happened li', /chat: 11 of 12 delivered; 1 (error|closed)/);
    await visit.says('#total-reasons', /\d+ (error|closed)/);
    await page.getByRole('button', { name: 'Send them away' }).click();
    await visit.says('#clients-count', '0 listening');
    visit.faultless();
  });

  it('shows how a stalled client falls behind, is closed, and comes back', async () => {
    const { page } = visit;
    // Nothing that would share the outcomes: the stalled one alone listens.
    await page.getByLabel('Simulated clients').selectOption('tail');
    await page.getByLabel('Listen to tail').uncheck();
    await visit.says('#happened li', '1 listener on machine, chat');
    await visit.says('#total-listeners', /^1$/);
    await page.getByRole('button', { name: 'One stops reading' }).click();
    await visit.says('#trouble .condition', 'not reading');
    await page.getByRole('button', { name: 'Write 8 MiB' }).click();

    await visit.says('#trouble .lag', /\d+ behind/);
    await visit.says('#total-behind', '1 behind');
    await visit.says('#trouble ol', 'the server closed it: stalled');
    await visit.says('#happened li', /tail: 0 of 1 delivered; 1 stalled/);
    await visit.says('#trouble ol', 'recovered: true');
    await visit.says('#trouble .lag', '128 read');
    await demo.post('trouble/away');
    await page.getByLabel('Listen to tail').check();
    visit.faultless();
  });

  it('loses no event when its connections are cut', async () => {
    const { page } = visit;
    await demo.post('write/chat', { data: 'event 0' });
    await visit.says('#heard li', 'event 0');
    await page.getByRole('button', { name: 'Cut connections' }).click();
    await visit.says('#stream-text', 'Reconnecting');
    for (const number of [1, 2, 3, 4, 5]) await demo.post('write/chat', { data: `event ${number}` });

    await visit.says('#heard li', 'nothing was missed');
    await visit.says('#stream-text', /^Listening to/);
    await visit.says('#monitor-text', 'Monitor live');
    await visit.says('#heard li', 'event 5');
    const heard = (await visit.heard('chat')).filter((text) => text.startsWith('event '));
    expect(heard).to.deep.equal([0, 1, 2, 3, 4, 5].map((number) => `event ${number}`));
    visit.faultless(CUT);
  });

  it('shows 503 while the hub is deactivated, and is back when it is activated', async () => {
    const { page } = visit;
    await page.getByRole('button', { name: 'Deactivate' }).click();
    await visit.says('#hub-text', 'Hub deactivated');
    await visit.says('#stream-text', 'Refused: 503');
    await visit.says('#total-codes', 'UNAVAILABLE');
    expect(await visit.text('#monitor-text')).to.equal('Monitor live');
    await demo.post('write/chat', { data: 'meanwhile' });

    await page.getByRole('button', { name: 'Activate' }).click();
    await visit.says('#hub-text', 'Hub active');
    await visit.says('#stream-text', /^Listening to/);
    await visit.says('#heard li', 'nothing was missed');
    await visit.says('#heard li', 'meanwhile');
    visit.faultless(new RegExp(`${UNAVAILABLE.source}|${CUT.source}`));
  });

  it('sets the timeout, closes the hub, and opens a new one, by the keyboard alone', async () => {
    const { page } = visit;
    await page.getByLabel('Timeout, s').focus();
    await page.keyboard.type('60');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Space');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await visit.says('#timeout-now', 'timeout 60 s');
    await visit.says('#happened li', 'timeout');

    await page.keyboard.press('Tab');
    await page.keyboard.type('0.5');
    await page.keyboard.press('Enter');
    await page.getByRole('dialog').waitFor();
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await visit.says('#hub-text', 'Hub closed');
    await visit.says('#control-said', 'Every connection has closed');
    await page.keyboard.press('Enter');
    await visit.says('#hub-text', 'Hub active');
    await visit.says('#stream-text', 'Listening, after a gap');
    visit.faultless(new RegExp(`${UNAVAILABLE.source}|${CUT.source}`));
  });

  it('moves nothing while its numbers change', async () => {
    const { page } = visit;
    const places = () =>
      page
        .locator('.card, .tiles dl > div, .legend dd, .lamp, button, input, thead th, figure')
        .evaluateAll((nodes) =>
          nodes.map((node) => {
            const { x, y, width, height } = node.getBoundingClientRect();
            return [x, y, width, height];
          }),
        );
    const before = await places();
    await demo.post('trouble/listen', { channel: 'machine', count: 100 });
    await visit.says('#total-listeners', /^101$/);
    await visit.says('#total-rate', /^101$/);
    expect(await places()).to.deep.equal(before);
    await demo.post('trouble/away');
    visit.faultless();
  });

  it('has no violation that axe finds, and fits, in light and dark, wide and narrow', async () => {
    const { page } = visit;
    // Something of everything is there to be looked at.
    await demo.post('trouble/listen', { channel: 'chat', count: 3 });
    await demo.post('trouble/reset', { channel: 'chat' });
    await visit.says('#happened li', 'delivered');
    const { width, height } = page.viewportSize()!;
    // Each view in each scheme and at each width, if not in all pairs of them.
    await visit.isSound('light', 1600);
    await visit.isSound('dark', 360);
    await visit.showChannel('chat');
    await visit.says('#written li', 'was reset');
    await visit.isSound('light', 360);
    await visit.isSound('dark', 1600);
    await page.setViewportSize({ width, height });
    await demo.post('trouble/away');
    visit.faultless();
  });

  it('runs under a policy without inline scripts, and the server lets no other site post', async () => {
    const page = await fetch(demo.url);
    const policy = page.headers.get('content-security-policy') ?? '';
    expect(policy).to.include("default-src 'self'").and.not.include('unsafe');
    expect(await page.text()).not.to.match(/<script(?![^>]*\bsrc=)|\bstyle=|\bon\w+=/);

    const form = await fetch(`${demo.url}/control/deactivate`, {
      method: 'POST',
      body: new URLSearchParams(),
    });
    expect(form.status).to.equal(415);
  });

  it('is back after a restart of the server, and says that there is a gap', async () => {
    await demo.post('write/chat', { data: 'before' });
    await visit.says('#heard li', 'before');
    await demo.kill();
    await visit.says('#monitor-text', 'Monitor retrying');
    await visit.says('#stream-text', 'Reconnecting');

    await demo.start();
    await demo.post('write/chat', { data: 'while it was away' });
    await visit.says('#monitor-text', 'Monitor live');
    await visit.says('#stream-text', 'Listening, after a gap');
    // What it missed of the new life is in the rewind.
    await visit.says('#heard li', 'while it was away');
    await demo.post('write/chat', { data: 'after' });
    await visit.says('#heard li', 'after');
    await visit.says('#channels tr', 'chat');
    visit.faultless(CUT);
  });

  it('shows a newcomer what a channel retains, once, whichever streams it opens after that', async () => {
    const written = ['first', 'named', 'last'];
    for (const data of written)
      await demo.post('write/chat', data === 'named' ? { data, event: 'line' } : { data });
    const other = await Visit.open(browser, demo);
    const heard = async () => (await other.heard('chat')).slice(-written.length);
    await other.says('#heard li', 'last');
    expect(await heard()).to.deep.equal(written);
    for (const data of ['without tail', 'with tail']) {
      await other.page.getByLabel('Listen to tail').setChecked(data === 'with tail');
      await demo.post('write/chat', { data, event: 'line' });
      await other.says('#heard li', data);
      written.push(data);
      expect(await heard()).to.deep.equal(written);
    }
    other.faultless();
    await other.page.context().close();
  });

  it('draws its charts where the browser’s language is none that Intl knows', async () => {
    const other = await Visit.open(
      browser,
      demo,
      "Object.defineProperty(Navigator.prototype, 'language', { get: () => 'en-US@posix' });",
    );
    await other.says('#monitor-text', 'Monitor live');
    await other.page.locator('#chart-rates canvas').waitFor();
    other.faultless();
    await other.page.context().close();
  });
});
