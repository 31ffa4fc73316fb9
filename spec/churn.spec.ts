import { createHook } from 'node:async_hooks';
import { EventEmitter, once } from 'node:events';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'chai';
import { EventClient, RawClient, request } from './support/client.js';
import { SCALE } from './support/scale.js';
import { cleanup, hub, type TestServer } from './support/server.js';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

const CLIENTS = 20_000 * SCALE;
const AT_A_TIME = 100;
// Of this process, which holds the clients too: less for each than the smallest record would take.
const NOISE = 50 * CLIENTS;

const SEEN = ':ok';

type Visit = (port: number) => Promise<void>;

const visits: readonly Visit[] = [
  async function leaveByFin(port) {
    const client = await RawClient.get(port, '/news');
    await client.until(SEEN);
    client.finish();
    await client.closed();
  },
  async function leaveByReset(port) {
    const client = await RawClient.get(port, '/news');
    await client.until(SEEN);
    await client.reset();
  },
  async function resetBeforeTheHeadIsSent(port) {
    const client = await RawClient.get(port, '/news');
    await client.reset();
  },
  async function resetInTheMiddleOfTheRequest(port) {
    const client = await RawClient.connect(port);
    client.send(request('/news').slice(0, 20));
    await client.reset();
  },
  async function resetWithTwoRequestsSent(port) {
    const client = await RawClient.connect(port);
    client.send(request('/news') + request('/news'));
    await client.until(SEEN);
    await client.reset();
  },
];

describe('Clients that come and go', () => {
  it(`leave nothing behind, ${CLIENTS} of them`, async function () {
    this.timeout(120_000 * SCALE);
    const { push, server } = await hub();
    push.channels.create({ name: 'news' });
    await EventClient.open(`${server.url}/news`).then((client) => client.close());

    await come(server, CLIENTS / 4);
    let grown = Infinity;
    // What the process itself takes once, such as compiled code, it does not take again; what clients leave they leave each time.
    for (let attempt = 0; attempt < 3 && grown >= NOISE; attempt += 1) {
      const before = await heapWhenQuiet(server);
      await come(server, CLIENTS);
      grown = (await heapWhenQuiet(server)) - before;
    }

    expect(push.inspect()).to.deep.include({ listeners: 0, refusals: {} });
    expect(push.channels.find('news')?.listeners).to.equal(0);
    expect(grown, 'bytes of heap').below(NOISE);
  });

  it('leave no timer behind, and none for each of them while they are here', async () => {
    const { push, server } = await hub({ heartbeat: 80 });
    push.channels.create({ name: 'news' });
    const timers = new Set<number>();
    const changed = new EventEmitter();
    const hook = createHook({
      init(id, type) {
        if (type === 'Timeout') timers.add(id);
      },
      destroy(id) {
        if (timers.delete(id)) changed.emit('change');
      },
    }).enable();
    cleanup(() => {
      hook.disable();
    });

    const clients = await Promise.all(Array.from({ length: 50 }, () => RawClient.get(server.port, '/news')));
    await Promise.all(clients.map((client) => client.until('comet:open')));
    expect(timers.size, "the hub's, and the one that Node has for its Date header").below(3);
    await Promise.all(clients.map((client) => client.reset()));
    await server.quiet();
    while (timers.size > 0) await once(changed, 'change');
  });
});

async function come(server: TestServer, clients: number): Promise<void> {
  for (let done = 0; done < clients; done += AT_A_TIME) {
    await Promise.all(
      Array.from({ length: AT_A_TIME }, (_, index) => visits[(done + index) % visits.length]?.(server.port)),
    );
  }
}

async function heapWhenQuiet(server: TestServer): Promise<number> {
  await server.quiet();
  collect();
  await new Promise(setImmediate);
  collect();
  return process.memoryUsage().heapUsed;
}
