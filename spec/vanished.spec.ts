import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { connectionKey, unacknowledged } from '../lib/transport/kernel.js';
import { EventClient } from './support/client.js';
import { cleanup, hub } from './support/server.js';
import { Text } from './support/text.js';

const SCRIPT = fileURLToPath(new URL('support/vanishing.ts', import.meta.url));

describe('A client that vanishes without FIN or RST', () => {
  before(function () {
    // Elsewhere no system tells; `lifetime` bounds a stream there.
    if (process.platform !== 'linux') this.skip();
  });

  it('is found within its time, although heartbeats go out and are taken', async () => {
    const VANISH = 1500;
    // With namespaces for users and for the network, as any user may have them.
    const args = ['--map-root-user', '--net', process.execPath, '--import', 'tsx', SCRIPT, String(VANISH)];
    const child = spawn('unshare', args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    cleanup(() => {
      try {
        process.kill(-(child.pid ?? 0), 'SIGKILL');
      } catch {
        // It has exited by itself, as it should.
      }
    });
    const [output, errors] = await Promise.all([new Text(child.stdout).all(), new Text(child.stderr).all()]);
    expect(errors).to.equal('');
    const { reason, elapsed, before, after, counts, listeners } = JSON.parse(output);
    expect(reason).to.equal('vanished');
    expect(before).to.include({ status: 'success', delivered: 1 });
    expect(after).to.include({ status: 'success', delivered: 1 });
    expect(listeners).to.equal(0);
    // What is counted says when there is something to look for.
    const [first, quiet, last] = counts;
    expect(quiet).to.equal(first);
    expect(last).to.be.above(quiet);
    // Its time, the first retransmission, and a quarter of its time for each of two looks.
    expect(elapsed).within(VANISH, 2 * VANISH + 1000);
  });

  it('is told from those who read, and from those who do not', async () => {
    const { push, server, port } = await hub();
    push.channels.create({ name: 'news' });
    await EventClient.open(`${server.url}/news`);
    const { remoteAddress = '', remotePort = 0 } = server.socket;
    expect([...(await unacknowledged()).keys()]).not.to.include(
      connectionKey(port, remoteAddress, remotePort),
    );
  });
});
