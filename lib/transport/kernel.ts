import { readFile } from 'node:fs/promises';
import { SocketAddress } from 'node:net';

// What the kernel knows of a connection and Node does not tell: whether its peer acknowledges. A client that vanished
// (no FIN, no RST) takes every write for a quarter of an hour, until the kernel gives up; heartbeats keep the socket
// from looking idle, and TCP's keepalive does not run while bytes are unacknowledged. What would help,
// TCP_USER_TIMEOUT (RFC 5482), Node does not expose; so this reads Linux's table of its connections.

/** The two ends of a connection, from this side: the same string for the same connection. */
export function connectionKey(localPort: number, remoteAddress: string, remotePort: number): string {
  return `${localPort} ${remoteAddress.replace(/^::ffff:/, '')} ${remotePort}`;
}

/** Whether this system has such a table. */
export const canTell = process.platform === 'linux';

// proc(5): sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt …, where tr 01 says that the timer
// which runs is that of a retransmission.
const RETRANSMITTING =
  /^ *\d+: [\dA-F]+:([\dA-F]+) ([\dA-F]+):([\dA-F]+) \S+ \S+ 01:\S+ 0*([1-9A-F][\dA-F]*) /gm;

/**
 * The connections to peers that do not acknowledge: by `connectionKey`, how many times in a row their bytes were sent
 * again. A peer that merely does not read acknowledges, and is not among them.
 */
export async function unacknowledged(): Promise<ReadonlyMap<string, number>> {
  const tables = await Promise.all([table('/proc/self/net/tcp'), table('/proc/self/net/tcp6')]);
  return new Map(
    Array.from(
      tables.join('').matchAll(RETRANSMITTING),
      ([, local = '', address = '', remote = '', count = '']) => [
        connectionKey(Number.parseInt(local, 16), addressOf(address), Number.parseInt(remote, 16)),
        Number.parseInt(count, 16),
      ],
    ),
  );
}

// By table and name, in files of a few kilobytes, where the table of connections has 150 bytes for each of them. Either may miss
// one: before Linux 5.1 not all timers that expired were counted, and what has no route is not sent again when they do.
const COUNTERS = [
  ['/proc/self/net/netstat', 'TcpExt', 'TCPTimeouts'],
  ['/proc/self/net/snmp', 'Tcp', 'RetransSegs'],
] as const;

/**
 * How many retransmissions the kernel has counted, on all connections. While it stays the same, no connection has come to
 * be among the `unacknowledged` that was not. NaN, which is never the same, where it can't be told.
 */
export async function retransmissions(): Promise<number> {
  const counts = await Promise.all(
    COUNTERS.map(async ([path, name, counter]) => {
      const lines = (await table(path)).split('\n').filter((line) => line.startsWith(`${name}: `));
      const [names = [], values = []] = lines.map((line) => line.split(' '));
      return Number(values[names.indexOf(counter)]);
    }),
  );
  return counts.reduce((sum, count) => sum + count);
}

async function table(path: string): Promise<string> {
  try {
    return await readFile(path, 'latin1');
  } catch (error) {
    // A kernel without IPv6, or without counters.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}

/** An address as the kernel prints it, in words of the machine's byte order, as Node writes it. */
function addressOf(hex: string): string {
  const words = hex.match(/.{8}/g) ?? [];
  const bytes = words.flatMap((word) => [...Buffer.from(word, 'hex').reverse()]);
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from({ length: 8 }, (_, index) =>
    (((bytes[index * 2] ?? 0) << 8) | (bytes[index * 2 + 1] ?? 0)).toString(16),
  );
  return new SocketAddress({ address: groups.join(':'), family: 'ipv6' }).address;
}
