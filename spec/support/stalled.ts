import { type Channel, type Comet, type CometOptions, Deferred, type Outcome } from '../../lib/index.js';
import { RawClient, told } from './client.js';
import { hub, type TestServer } from './server.js';

const MiB = 2 ** 20;

// More than the kernel takes for a peer that does not read, about 3.6 MiB on loopback: it blocks a stream.
const FLOOD = 'x'.repeat(8 * MiB);

/** Room for that in a log of so many frames. */
export const room = (frames = 1000): CometOptions => ({
  maxFrame: 16 * MiB,
  log: { frames, bytes: 64 * MiB },
});

export interface Stalled {
  readonly push: Comet;
  readonly server: TestServer;
  readonly news: Channel;
  readonly client: RawClient;
  /** What becomes of the write that the client does not read. */
  readonly flood: Promise<Outcome>;
}

/** A hub whose one client does not read, and has a write in flight on its channels, of which `news` is one. */
export async function stalled(
  options: CometOptions = room(),
  names: readonly string[] = ['news'],
  watch: (push: Comet) => void = () => {},
): Promise<Stalled> {
  const { push, server, port } = await hub(options);
  watch(push);
  const [news] = names.map((name) => push.channels.create({ name })) as [Channel];
  const joined = told((on) => push.on('join', on));
  const client = await RawClient.get(port, `/?${names.map((name) => `chan_id=${name}`).join('&')}`);
  await joined;
  const outcome = new Deferred<Outcome>();
  news.write(FLOOD, { outcome });
  await new Promise(setImmediate);
  return { push, server, news, client, flood: outcome.promise };
}
