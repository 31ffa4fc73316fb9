import { expect } from 'chai';
import { AggregatorRegistry, Counter, type OpenMetricsContentType, Registry } from 'prom-client';
import {
  type Comet,
  type CometEvents,
  type CometOptions,
  comet,
  Deferred,
  InvalidOptionError,
} from '../lib/index.js';
import { type MetricsOptions, metrics } from '../lib/metrics.js';
import { EventClient, RawClient, told } from './support/client.js';
import { newNode, nodes, until } from './support/nodes.js';
import { delivered } from './support/outcomes.js';
import { RedisServer } from './support/redis.js';
import { Scrape, scraped } from './support/scrape.js';
import { cleanup, hub, type TestServer } from './support/server.js';
import { room, stalled } from './support/stalled.js';

/** Measures a hub on a registry of its own; returns what scrapes it. */
async function measured(push: Comet, options: MetricsOptions = {}): Promise<() => Promise<Scrape>> {
  const register = options.register ?? new Registry();
  cleanup(metrics(push, { register, ...options }));
  return scraped(register);
}

async function measuredHub(
  options: CometOptions = {},
): Promise<{ push: Comet; server: TestServer; scrape: () => Promise<Scrape> }> {
  const { push, server } = await hub(options);
  return { push, server, scrape: await measured(push) };
}

/** A client that does not read, on a hub that is measured. */
async function measuredStall(options?: CometOptions, names?: readonly string[]) {
  const register = new Registry();
  const stall = await stalled(options, names, (push) => cleanup(metrics(push, { register })));
  return { ...stall, scrape: await scraped(register) };
}

describe('metrics()', () => {
  it('tells of streams, writes, deliveries and what is retained', async () => {
    const { push, server, scrape } = await measuredHub();
    let milliseconds = 0;
    push.on('outcome', ({ elapsed }) => {
      milliseconds += elapsed;
    });
    const news = push.channels.create({ name: 'news' });
    push.channels.create();
    const [first, second] = await Promise.all([1, 2].map(() => EventClient.open(`${server.url}/news`)));
    expect(await news.send('one')).to.deep.equal(delivered(2));
    expect(await news.send('two')).to.deep.equal(delivered(2));
    news.write('nobody asks');
    await Promise.all([first!.heard(3), second!.heard(3)]);
    const left = told((on) => push.on('leave', on));
    second!.close();
    await left;

    const seen = await scrape();
    expect(seen.value('listeners')).to.equal(1);
    expect(seen.value('channels')).to.equal(2);
    expect(seen.value('joins_total')).to.equal(2);
    expect(seen.counts('leaves_total')).to.deep.equal({ closed: 1 });
    expect(seen.value('writes_total')).to.equal(3);
    expect(seen.value('deliveries_total')).to.equal(6);
    expect(seen.value('retained_frames')).to.equal(3);
    expect(seen.value('retained_bytes')).to.equal(news.inspect().bytes).and.to.be.above(0);
    expect(seen.counts('outcomes_total')).to.deep.equal({ success: 2 });
    expect(seen.value('outcome_deliveries_total')).to.equal(4);
    expect(seen.counts('outcome_failures_total')).to.deep.equal({});
    expect(seen.value('outcome_unknown_total')).to.equal(0);
    const { count, sum, buckets } = seen.sample('settle_seconds') ?? {};
    expect(count).to.equal('2');
    expect(Number(sum)).to.be.closeTo(milliseconds / 1000, 1e-9);
    expect(buckets).to.include({ '30': '2', '+Inf': '2' });
    expect(seen.value('listeners_lagging')).to.equal(0);
    expect(seen.value('lag_frames')).to.equal(0);
  });

  it('names and types them as Prometheus has it', async () => {
    const { scrape } = await measuredHub();
    const { families } = await scrape();
    expect(families.map(({ name, type }) => `${name} ${type.toLowerCase()}`)).to.have.members([
      'express_comet_listeners gauge',
      'express_comet_channels gauge',
      'express_comet_listeners_lagging gauge',
      'express_comet_lag_frames gauge',
      'express_comet_retained_frames gauge',
      'express_comet_retained_bytes gauge',
      'express_comet_backplane_healthy gauge',
      'express_comet_backplane_queued_writes gauge',
      'express_comet_writes_total counter',
      'express_comet_deliveries_total counter',
      'express_comet_joins_total counter',
      'express_comet_leaves_total counter',
      'express_comet_refusals_total counter',
      'express_comet_overruns_total counter',
      'express_comet_replays_total counter',
      'express_comet_gaps_total counter',
      'express_comet_replayed_frames_total counter',
      'express_comet_drops_total counter',
      'express_comet_outcomes_total counter',
      'express_comet_outcome_deliveries_total counter',
      'express_comet_outcome_failures_total counter',
      'express_comet_outcome_unknown_total counter',
      'express_comet_settle_seconds histogram',
    ]);
    for (const { help } of families) expect(help).to.match(/\.$/);
  });

  it('tells of a listener that stalls: how far it is behind, and that it has caught up', async () => {
    const { news, client, flood, scrape } = await measuredStall();
    const waiting = [1, 2, 3].map((index) => news.send(`write ${index}`));
    const behind = await scrape();
    expect(behind.value('listeners')).to.equal(1);
    expect(behind.value('listeners_lagging')).to.equal(1);
    expect(behind.value('lag_frames')).to.equal(3);
    expect(behind.value('deliveries_total')).to.equal(0);
    expect(behind.counts('outcomes_total')).to.deep.equal({});

    client.read();
    await Promise.all([flood, ...waiting]);
    const live = await scrape();
    expect(live.value('listeners_lagging')).to.equal(0);
    expect(live.value('lag_frames')).to.equal(0);
    expect(live.value('deliveries_total')).to.equal(4);
    expect(live.counts('outcomes_total')).to.deep.equal({ success: 4 });
  });

  it('tells of several workers the worst lag, and the sum of all else', async () => {
    const register = new Registry();
    const { news } = await stalled(undefined, undefined, (push) => cleanup(metrics(push, { register })));
    for (const data of ['1', '2']) news.write(data);
    const worker = await register.getMetricsAsJSON();
    const sum = new Scrape(await AggregatorRegistry.aggregate([worker, worker]).metrics());
    expect(sum.value('lag_frames')).to.equal(2);
    expect(sum.value('listeners_lagging')).to.equal(2);
    expect(sum.value('joins_total')).to.equal(2);
  });

  it('tells of one that falls off the log and is closed, and what failed by it', async () => {
    const { push, news, flood, scrape } = await measuredStall(room(2));
    const left = told((on) => push.on('leave', on));
    const writes = [1, 2, 3].map((index) => news.send(`write ${index}`));
    await Promise.all([flood, ...writes, left]);
    const seen = await scrape();
    expect(seen.counts('overruns_total')).to.deep.equal({ close: 1 });
    expect(seen.counts('leaves_total')).to.deep.equal({ overrun: 1 });
    expect(seen.counts('outcomes_total')).to.deep.equal({ failure: 4 });
    expect(seen.counts('outcome_failures_total')).to.deep.equal({ overrun: 4 });
    expect(seen.value('deliveries_total')).to.equal(0);
  });

  it('tells of one that jumps to the latest, and counts what it took', async () => {
    const { push, news, client, flood, scrape } = await measuredStall({ ...room(2), lag: 'latest' });
    const overrun = told((on) => push.on('overrun', on));
    for (const data of ['1', '2', '3', '4']) news.write(data);
    await overrun;
    const last = news.send('last');
    client.read();
    await Promise.all([flood, last]);
    const seen = await scrape();
    expect(seen.counts('overruns_total')).to.have.all.keys('latest');
    expect(seen.counts('leaves_total')).to.deep.equal({});
    const heard = client.text.match(/^data: /gm)?.length;
    expect(seen.value('deliveries_total'), 'the open event is none').to.equal(Number(heard) - 1);
  });

  for (const [reason, fail] of [
    ['error', ({ client }: { client: RawClient }) => client.reset()],
    ['closed', ({ server }: { server: TestServer }) => void server.socket.destroy()],
    ['deactivated', ({ push }: { push: Comet }) => push.deactivate()],
  ] as const) {
    it(`tells of what failed by ${reason}`, async () => {
      const stall = await measuredStall();
      await fail(stall);
      await stall.flood;
      const seen = await stall.scrape();
      expect(seen.counts('outcome_failures_total')).to.deep.equal({ [reason]: 1 });
      expect(seen.counts('leaves_total')).to.deep.equal({ [reason]: 1 });
    });
  }

  it('tells of what was written on a channel that had ended', async () => {
    const { push } = await hub();
    const scrape = await measured(push);
    const news = push.channels.create();
    news.end();
    await news.send('late');
    const seen = await scrape();
    expect(seen.counts('outcome_failures_total')).to.deep.equal({ ended: 1 });
    expect(seen.counts('drops_total')).to.deep.equal({ never: 1 });
    expect(seen.value('writes_total')).to.equal(0);
  });

  it('counts as unknown what nobody can know, and as no delivery', async () => {
    const { push, port } = await hub({ rewind: 1 }, (push) => (request, response) => {
      const { write } = response;
      response.write = (...args: unknown[]) =>
        String(args[0]).includes('is held back') || write.apply(response, args as Parameters<typeof write>);
      push(request, response);
    });
    const scrape = await measured(push);
    const news = push.channels.create({ name: 'news' });
    news.write('before it came');
    await (await RawClient.get(port, '/news')).until('before it came');
    await news.send('is held back');
    const seen = await scrape();
    expect(seen.value('outcome_unknown_total')).to.equal(1);
    expect(seen.counts('outcomes_total')).to.deep.equal({ failure: 1 });
    expect(seen.value('deliveries_total'), 'the first one').to.equal(1);
    expect(seen.value('writes_total')).to.equal(2);
  });

  it('tells of those who come back: replayed, or told of a gap', async () => {
    const { push, server, scrape } = await measuredHub({ rewind: 1, log: { frames: 3 } });
    const url = `${server.url}/news`;
    const news = push.channels.create({ name: 'news' });
    const cursor = `${push.inspect().epoch}-1`;
    for (const data of ['1', '2', '3', '4']) news.write(data);
    await (await EventClient.open(url)).heard(1);
    await (await EventClient.open(url, { 'Last-Event-ID': cursor })).heard(3);
    await (await EventClient.open(url, { 'Last-Event-ID': cursor.replace(/1$/, '0') })).heard(1);
    await (await EventClient.open(url, { 'Last-Event-ID': 'nonsense' })).heard(1);
    const seen = await scrape();
    expect(seen.value('joins_total')).to.equal(4);
    expect(seen.value('replays_total')).to.equal(1);
    expect(seen.value('gaps_total')).to.equal(2);
    expect(seen.value('replayed_frames_total'), 'three missed, and one by each rewind').to.equal(5);
    expect(seen.value('deliveries_total'), 'with that of the newcomer').to.equal(6);
  });

  it('tells of refusals by code', async () => {
    const { push, server, scrape } = await measuredHub({
      authorize: (_request, ids) => {
        if (ids.includes('teapot')) throw Object.assign(new Error('no'), { status: 418 });
        return !ids.includes('secret');
      },
    });
    push.channels.create({ name: 'news' });
    for (const path of ['', '?x=1', 'nothing', 'secret', 'teapot']) {
      await (await fetch(`${server.url}/${path}`, { headers: { Connection: 'close' } })).text();
    }
    push.deactivate();
    await (await fetch(`${server.url}/news`, { headers: { Connection: 'close' } })).text();
    expect((await scrape()).counts('refusals_total')).to.deep.equal({
      NO_CHANNEL: 2,
      UNKNOWN_CHANNEL: 1,
      FORBIDDEN: 2,
      UNAVAILABLE: 1,
    });
  });

  it('has as many series after all that as before, and names no channel and no listener', async () => {
    const { push, server, scrape } = await measuredHub({
      authorize: (_request, ids) => {
        if (!ids.includes('id "0"\n')) return true;
        throw Object.assign(new Error('no'), { status: 499 });
      },
    });
    const before = await scrape();
    const clients: EventClient[] = [];
    for (let index = 0; index < 50; index += 1) {
      push.channels.create({ name: `name "${index}" {}` });
      const name = encodeURIComponent(`name "${index}" {}`);
      clients.push(await EventClient.open(`${server.url}/${name}`, { 'Last-Event-ID': `abc-${index}` }));
      const unknown = encodeURIComponent(`id "${index}"`);
      await (await fetch(`${server.url}/${unknown}`, { headers: { Connection: 'close' } })).text();
    }
    for (const channel of push.channels) await channel.send('x', { event: `event ${channel.id}` });
    push.deactivate();
    const after = await scrape();
    expect(after.value('joins_total')).to.equal(50);
    expect(after.value('outcome_deliveries_total')).to.equal(50);
    expect(after.series).to.deep.equal(before.series);
    expect(after.series).to.have.length(75);
    for (const { opening } of clients) expect(after.text).not.to.include(opening.listener);
    expect(after.text).not.to.match(/name|event |id "|\b499\b/);
  });

  it('counts from the time when it is called', async () => {
    const { push, server } = await hub();
    const news = push.channels.create({ name: 'news' });
    await EventClient.open(`${server.url}/news`);
    await news.send('before');
    const scrape = await measured(push);
    await news.send('after');
    const seen = await scrape();
    expect(seen.value('listeners')).to.equal(1);
    expect(seen.value('writes_total')).to.equal(1);
    expect(seen.value('deliveries_total')).to.equal(1);
  });

  it('looks at the hub once for each scrape, and not between them', async () => {
    const push = comet();
    let looks = 0;
    const inspect: Comet['inspect'] = (options) => {
      looks += 1;
      return push.inspect(options);
    };
    const scrape = await measured(Object.create(push, { inspect: { value: inspect } }) as Comet);
    looks = 0;
    await scrape();
    await scrape();
    expect(looks).to.equal(2);
  });

  it('listens for no write, which the hub counts by itself, and once it is stopped for nothing', async () => {
    const push = comet();
    const events = new Set<string>();
    const { on } = push;
    const counting = Object.create(push, {
      on: {
        value: (name: keyof CometEvents, handler: () => void) => {
          events.add(name);
          const off = on(name, handler);
          return () => {
            events.delete(name);
            off();
          };
        },
      },
    });
    const stop = metrics(counting, { register: new Registry() });
    expect([...events]).not.to.include('write');
    expect([...events]).to.include('outcome');
    stop();
    expect([...events]).to.deep.equal([]);
  });

  it('is registered where prom-client has everything else, unless told otherwise', async () => {
    const { register } = await import('prom-client');
    const stop = metrics(comet());
    cleanup(stop);
    expect(register.getSingleMetric('express_comet_listeners')).not.to.equal(undefined);
    stop();
    expect(register.getSingleMetric('express_comet_listeners')).to.equal(undefined);
  });

  it('works on a registry of OpenMetrics', async () => {
    const register = new Registry<OpenMetricsContentType>();
    register.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
    const { push, server } = await hub();
    const stop = metrics(push, { register, prefix: 'push_' });
    const news = push.channels.create({ name: 'news' });
    await EventClient.open(`${server.url}/news`);
    for (const times of [1, 2]) {
      await news.send('x');
      expect(await register.metrics()).to.include(`\npush_deliveries_total ${times}\n`);
    }
    stop();
    expect(register.getMetricsAsArray()).to.deep.equal([]);
  });
});

describe('Several hubs on one registry', () => {
  it('are told apart by their names', async () => {
    const register = new Registry();
    const chat = await hub();
    const news = await hub();
    const stop = metrics(chat.push, { register, hub: 'chat' });
    const scrape = await measured(news.push, { register, hub: 'news' });
    chat.push.channels.create({ name: 'x' }).write('nobody hears it');
    news.push.channels.create({ name: 'x' });
    await EventClient.open(`${news.server.url}/x`);

    const both = await scrape();
    expect(both.value('listeners', { hub: 'chat' })).to.equal(0);
    expect(both.value('listeners', { hub: 'news' })).to.equal(1);
    expect(both.value('writes_total', { hub: 'chat' })).to.equal(1);
    expect(both.value('joins_total', { hub: 'news' })).to.equal(1);
    expect(both.text).to.include('express_comet_settle_seconds_count{hub="chat"} 0');

    stop();
    const one = await scrape();
    expect(one.text).not.to.include('chat');
    expect(one.series).to.deep.equal(both.series.filter((name) => !name.includes('chat')));
    expect(one.value('joins_total', { hub: 'news' })).to.equal(1);
  });

  it('are refused without, and with the same', () => {
    const register = new Registry();
    cleanup(metrics(comet(), { register }));
    expect(() => metrics(comet(), { register })).to.throw(InvalidOptionError, '{ hub: ');
    cleanup(metrics(comet(), { register, hub: 'chat' }));
    expect(() => metrics(comet(), { register, hub: 'chat' })).to.throw(InvalidOptionError, '"chat"');
    cleanup(metrics(comet(), { register, prefix: 'other_' }));
  });

  it('may take the place of one that was stopped, or whose registry was cleared', async () => {
    const register = new Registry();
    metrics(comet(), { register })();
    expect(register.getMetricsAsArray()).to.deep.equal([]);
    const stop = metrics(comet(), { register });
    register.clear();
    const push = comet();
    const scrape = await measured(push, { register });
    // Takes nothing out that is another's.
    stop();
    stop();
    push.channels.create();
    expect((await scrape()).value('channels')).to.equal(1);
  });

  it('are refused where a name is taken, and nothing is left of it', () => {
    const register = new Registry();
    const taken = new Counter({
      name: 'express_comet_gaps_total',
      help: 'Of others.',
      registers: [register],
    });
    expect(() => metrics(comet(), { register })).to.throw(InvalidOptionError, 'express_comet_gaps_total');
    expect(register.getMetricsAsArray()).to.deep.equal([taken]);
  });

  it('refuses what makes no sense', () => {
    const push = comet();
    for (const options of [
      { registry: new Registry() },
      { register: {} },
      { prefix: '' },
      { prefix: '9' },
      { prefix: 'a:b' },
      { prefix: 'a-b' },
      { hub: '' },
      { hub: 'a"b' },
      { hub: 5 },
      null,
    ]) {
      expect(() => metrics(push, options as never), JSON.stringify(options)).to.throw(InvalidOptionError);
    }
    expect(() => metrics({} as never)).to.throw(InvalidOptionError, 'comet()');
  });
});

describe('The metrics of a backplane', () => {
  it('tell whether it can be reached, what waits for it, and what was given up', async () => {
    const redis = await RedisServer.start();
    const { push } = await newNode(redis.port, { queue: { writes: 1 } });
    const scrape = await measured(push);
    const news = push.channels.create({ name: 'news' });
    await until(() => push.inspect().backplane?.healthy === true);
    expect((await scrape()).value('backplane_healthy')).to.equal(1);
    expect((await scrape()).value('backplane_queued_writes')).to.equal(0);

    const away = told((on) => push.on('backplane', on));
    await redis.kill();
    expect(await away).to.include({ healthy: false });
    news.write('waits');
    const outcome = await news.send('one too many');
    expect(outcome.reasons).to.deep.equal({ backplane: 1 });
    const seen = await scrape();
    expect(seen.value('backplane_healthy')).to.equal(0);
    expect(seen.value('backplane_queued_writes')).to.equal(1);
    expect(seen.value('writes_total')).to.equal(2);
    expect(seen.counts('drops_total')).to.deep.equal({ never: 1 });
    expect(seen.counts('outcome_failures_total')).to.deep.equal({ backplane: 1 });
  });

  it('count an outcome on the node of the writer, and a delivery where the listener is', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b']);
    const [scrapeA, scrapeB] = await Promise.all([measured(a!.push), measured(b!.push)]);
    const news = a!.push.channels.open('news');
    b!.push.channels.open('news');
    await a!.listen('news');
    await b!.listen('news');
    const outcome = new Deferred<unknown>();
    news.write('x', { outcome });
    expect(await outcome.promise).to.deep.equal(delivered(2));
    const [atA, atB] = [await scrapeA(), await scrapeB()];
    expect([atA, atB].map((seen) => seen.value('outcome_deliveries_total'))).to.deep.equal([2, 0]);
    expect([atA, atB].map((seen) => seen.value('deliveries_total'))).to.deep.equal([1, 1]);
    expect([atA, atB].map((seen) => seen.value('writes_total'))).to.deep.equal([1, 0]);
  });

  it('are absent where there is none', async () => {
    const { scrape } = await measuredHub();
    expect((await scrape()).value('backplane_healthy')).to.equal(undefined);
  });
});
