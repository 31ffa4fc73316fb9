import { expect } from 'chai';
import type { Browser } from 'playwright-core';
import { RedisServer } from '../support/redis.js';
import { Demo, launch, Visit } from './stand.js';

// What a browser says of a stream that was closed for what it missed.
const CUT = /ERR_INCOMPLETE_CHUNKED_ENCODING/;

describe('The dashboards of two nodes, in a browser', function () {
  this.timeout(30_000);

  let browser: Browser;
  let redis: RedisServer;
  let demos: Demo[] = [];
  let here: Visit;
  let there: Visit;

  before(async () => {
    redis = await RedisServer.start();
    demos = [new Demo({ REDIS: redis.url }), new Demo({ REDIS: redis.url })];
    [browser] = await Promise.all([launch(), ...demos.map((demo) => demo.start())]);
    [here, there] = (await Promise.all(demos.map((demo) => Visit.open(browser, demo)))) as [Visit, Visit];
  });
  after(async () => {
    await Promise.all([browser?.close(), ...demos.map((demo) => demo.kill())]);
  });

  it('show the listeners and the outcomes of both, and when Redis is away', async () => {
    for (const { page } of [here, there]) await page.locator('#node-list [data-state="answers"]').waitFor();
    await here.says('#node-list [data-state="own"]', /this one.*chat\s*1/s);
    await here.says('#node-list [data-state="answers"]', /chat\s*1/);
    await here.says('#node-list [data-state="sum"]', /chat\s*2/);
    await here.says('#backplane', /Healthy\s*redis/);

    await here.showChannel('chat');
    await here.says('#channel-listeners', /^1 of 2$/);
    // A name that the other page was never told of.
    await here.page.getByLabel('Event name').fill('greeting');
    await here.page.getByLabel('Data').fill('hello over there');
    await here.page.getByRole('button', { name: 'Write', exact: true }).click();
    await here.says('#verdict', 'Success');
    expect(await here.text('#outcome-delivered')).to.equal('2');
    const onNodes = await here.page.locator('#outcome-nodes .delivered').allInnerTexts();
    expect(onNodes).to.deep.equal(['1 of 1', '1 of 1']);
    await there.says('#heard li', /chat.*greeting.*hello over there/s);

    await redis.kill();
    for (const visit of [here, there]) await visit.says('#hub-text', 'Backplane away');
    await there.says('#backplane-state', 'Away');
    await there.says('#node-list [data-state="unknown"]', 'unknown');
    await there.says('#happened li', /backplane\s*Redis can not be reached/);
    await there.says('#stream-text', /^Listening to/);
    await here.page.getByLabel('Data').fill('while it was away');
    await here.page.getByRole('button', { name: 'Write', exact: true }).click();
    await here.says('#verdict', 'Waiting');
    here.faultless();
    there.faultless();

    await redis.restart();
    for (const visit of [here, there]) await visit.says('#hub-text', 'Hub active');
    await there.says('#backplane-state', 'Healthy');
    await there.says('#happened li', /backplane\s*reached/);
    // Redis lost what it had. If the other node had its turn first, what was written meanwhile is part of that gap.
    await there.says('#stream-text', 'Listening, after a gap');
    await here.page.getByLabel('Data').fill('after it came back');
    await here.page.getByRole('button', { name: 'Write', exact: true }).click();
    await there.says('#heard li', 'after it came back');
    await there.says('#node-list [data-state="answers"]', /chat\s*1/);
    for (const visit of [here, there]) visit.faultless(CUT);
  });

  it('have no violation that axe finds, and fit, while Redis is away too', async () => {
    // It was the first test's, and ended with it.
    await there.says('#hub-text', 'Backplane away');
    await there.isSound('dark', 360);
    await here.says('#outcome-nodes li', /\d of \d/);
    await here.isSound('light', 360);
  });
});
