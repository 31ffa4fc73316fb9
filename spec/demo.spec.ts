import { once } from 'node:events';
import { type IncomingMessage, request as open } from 'node:http';
import { expect } from 'chai';
import { EventClient, RawClient, request } from './support/client.js';
import { Demo } from './support/demo.js';

interface Happenings {
  readonly list: readonly { readonly type: string }[];
  readonly dropped: number;
}

describe('The demo', () => {
  let demo: Demo;

  const start = async () => {
    demo = new Demo();
    await demo.start();
  };
  const monitor = (channel: string) => EventClient.open(`${demo.url}/monitor?chan_id=${channel}`);

  describe('whose monitor can not tell all of what happened', () => {
    beforeEach(start);
    afterEach(() => demo.kill());

    it('goes on after a burst of refused requests with long names, and tells of them', async () => {
      const client = await monitor('happenings');
      // 15 KB each, of which a batch would have some hundred. The first name is none, so that they are refused at once.
      const names = Array.from({ length: 58 }, (_, index) => `chan_id=${index}${'x'.repeat(250)}`);
      const refused = request(`/channels?chan_id=%00&${names.join('&')}`);
      const requests = 800;
      for (let connection = 0; connection < 8; connection += 1) {
        const stranger = await RawClient.connect(Number(new URL(demo.url).port));
        stranger.read().send(refused.repeat(requests / 8));
      }

      const told = () => {
        const batches = client.messages.map((data) => JSON.parse(data) as Happenings);
        return {
          refused: batches.flatMap(({ list }) => list).filter(({ type }) => type === 'refuse').length,
          dropped: batches.reduce((sum, { dropped }) => sum + dropped, 0),
        };
      };
      await client.until(() => told().refused + told().dropped >= requests);
      expect(told().refused).above(0);
      expect(told().refused + told().dropped).to.be.at.least(requests);
    });

    it('goes on after events with long names, and tells of those that a page can listen to', async () => {
      const client = await monitor('state');
      for (let index = 0; index < 20; index += 1) {
        await demo.post('write/chat', { data: '', event: `${index}${'x'.repeat(60_000)}` });
      }
      await demo.post('write/chat', { data: '', event: 'short' });
      const names = () => {
        const { channels } = JSON.parse(client.messages.at(-1) ?? '{"channels":[]}');
        return channels.find(({ id }: { id: string }) => id === 'chat')?.names ?? [];
      };
      await client.until(() => names().includes('short'));
      expect(names()).to.deep.equal(['short']);
    });
  });

  describe('answers no request for a name that another site may have given to its address (DNS rebinding)', () => {
    before(start);
    after(() => demo.kill());

    const ask = async (host: string, method: string, path: string) => {
      const { port } = new URL(demo.url);
      const headers = {
        Host: host.replace('PORT', port),
        Origin: `http://${host.replace('PORT', port)}`,
        'Content-Type': 'application/json',
      };
      const sent = open({ host: '127.0.0.1', port, method, path, headers });
      sent.end(method === 'POST' ? '{}' : undefined);
      const [response] = (await once(sent, 'response')) as [IncomingMessage];
      response.destroy();
      return response.statusCode;
    };
    const foreign = [
      'evil.example',
      'evil.example:PORT',
      'localhost.evil.example',
      '127.0.0.1.evil.example:PORT',
      'localhost@evil.example',
      'a b',
    ];
    const own = ['localhost:PORT', 'LOCALHOST', '127.0.0.1:PORT', '192.0.2.1', '[::1]:PORT'];
    const posts = ['create', 'end', 'write/chat', 'control/activate', 'control/close', 'trouble/cut', 'none'];

    for (const host of foreign) {
      it(`as Host: ${host}`, async () => {
        for (const path of posts) expect(await ask(host, 'POST', `/${path}`), path).to.equal(421);
        for (const path of ['', 'channels/chat', 'monitor/state']) {
          expect(await ask(host, 'GET', `/${path}`), path).to.equal(421);
        }
      });
    }

    it('but for its own names and for addresses', async () => {
      for (const host of own) {
        expect(await ask(host, 'POST', '/control/activate'), host).to.equal(200);
        expect(await ask(host, 'GET', '/channels/chat'), host).to.equal(200);
      }
    });
  });
});
