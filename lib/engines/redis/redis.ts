/**
 * Many nodes over Redis.
 * @packageDocumentation
 */

import { createHash } from 'node:crypto';
import { v4 as uuid } from 'uuid';
import type {
  Append,
  Appended,
  Backplane,
  Findings,
  Found,
  Node,
  Question,
  RemoteLink,
  Snapshot,
  Terms,
} from '../../core/backplane.js';
import {
  BackplaneError,
  ChannelEndedError,
  InvalidOptionError,
  MalformedMessageError,
} from '../../core/errors.js';
import { shortened } from '../../core/jitter.js';
import { checkDuration, checkKnown } from '../../core/options.js';
import { freshEpoch } from '../../core/position.js';
import { failed, isLasting, otherVersion, unreachable } from './causes.js';
import { checkServer } from './check.js';
import { type Line, parseLine, parseMessage, parseTerms, VERSION } from './codec.js';
import type { Connection, Connector } from './connection.js';
import { type IoredisClient, ioredis, isIoredis, isIoredisCluster } from './ioredis.js';
import { checkPrefix, Keys, Topics } from './keys.js';
import { missingFromNodeRedis, nodeRedis, type RedisClient } from './node-redis.js';
import { SCRIPT } from './redis-script.js';

export type { IoredisClient, IoredisConnection } from './ioredis.js';
export type { RedisClient, RedisConnection } from './node-redis.js';

/** The options of `redis()`. Times are in milliseconds. */
export interface RedisOptions {
  /**
   * A client of the package `redis` 6 (`createClient(…)`, `createCluster(…)` or `createSentinel(…)`) or of `ioredis` 5
   * (`new Redis(…)`). It need not be connected, and stays yours.
   */
  client: RedisClient | IoredisClient;
  /**
   * The start of every key and topic: 1 to 64 UTF-16 units without spaces. Hubs with the same prefix on the same database
   * number are nodes of one another. One pair of braces marks the hash tag of a cluster: `app:{comet}`. A prefix without
   * braces stands in braces as a whole. Default `express-comet`.
   */
  prefix?: string | undefined;
  /**
   * After how long a node that gives no sign of life is taken for dead. Three signs are given in that time, and what is
   * not answered within a third of it makes the connection be made anew. Default 15 s.
   */
  lease?: number | undefined;
  /** How long Redis remembers a channel that no node holds any more. Default 1 h. */
  keep?: number | undefined;
}

/**
 * A backplane on Redis 7 or later, or Valkey, alone, with replicas or as a cluster:
 * `comet({ backplane: redis({ client: createClient({ url }) }) })`.
 *
 * What it retains it retains as Redis does: where Redis has lost it, a new epoch begins, and every client is told.
 * @throws InvalidOptionError
 */
export function redis(options: RedisOptions): Backplane {
  checkKnown(options, ['client', 'prefix', 'lease', 'keep']);
  const { client, prefix = 'express-comet', lease = 15_000, keep = 3_600_000 } = options;
  const settings = {
    connector: connectorOf(client),
    keys: new Keys(checkPrefix(prefix)),
    lease: checkDuration(lease, 'lease'),
    keep: checkDuration(keep, 'keep'),
  };
  return { name: 'redis', connect: (node) => new RedisLink(node, settings) };
}

/** @throws InvalidOptionError */
function connectorOf(client: RedisClient | IoredisClient): Connector {
  const missing = missingFromNodeRedis(client);
  if (missing.length === 0) return nodeRedis(client as RedisClient);
  if (isIoredis(client)) return ioredis(client);
  const why = isIoredisCluster(client) ? 'is a cluster of ioredis' : `lacks ${missing.join('(), ')}()`;
  throw new InvalidOptionError(
    `The option client ${why}: pass createClient(), createCluster() or createSentinel() of the package redis 6, or ` +
      'new Redis() of ioredis 5, and no pool, no legacy() and no client of an earlier version.',
  );
}

interface RedisSettings {
  readonly connector: Connector;
  readonly keys: Keys;
  readonly lease: number;
  readonly keep: number;
}

/** One pair of connections: what happens to either happens to both, so that what they say belongs together. */
interface Life {
  /** The version of this node, and an id. The script rejects late commands of an earlier connection by it. */
  readonly name: string;
  readonly commands: Connection;
  readonly subscriber: Connection;
  /** Known once it is connected. */
  topics?: Topics;
  /** Calls that Redis has yet to answer. */
  readonly pending: Set<Promise<unknown>>;
  /** Whether Redis refused a call, and will refuse what follows. */
  refused: boolean;
  readonly end: (cause: Error) => void;
}

const SHA = createHash('sha1').update(SCRIPT).digest('hex');
// What one call of a script looks at, for Redis does nothing else meanwhile: channels, one that is read whole for so many.
const PORTION = 256;
const WHOLE = 16;
// The pause before an attempt to connect doubles, up to the longest.
const SHORTEST_MS = 50;
const LONGEST_MS = 2000;
const CLOSED = new Error('The hub was closed.');

class RedisLink implements RemoteLink {
  readonly lease: number;
  readonly keep: number;
  readonly #node: Node;
  readonly #settings: RedisSettings;
  readonly #keys: Keys;
  // What is being connected, or lives …
  #attempt: Life | undefined;
  // … and what lives.
  #life: Life | undefined;
  #closed = false;
  #pause: { over: () => void } | undefined;
  readonly #done: Promise<void>;

  constructor(node: Node, settings: RedisSettings) {
    this.#node = node;
    this.#settings = settings;
    this.lease = settings.lease;
    this.keep = settings.keep;
    this.#keys = settings.keys;
    this.#done = this.#live();
  }

  async append({ chanId, body, bounds, ...append }: Append): Promise<Appended> {
    const flags = [append.again, append.asks].map((flag) => (flag ? '1' : '0'));
    const order = [append.number, append.after, append.settled].map(String);
    const limits = [bounds.frames, bounds.bytes, bounds.age ?? 0, this.keep].map(String);
    const { topics } = this.#connected();
    const topic = body === null ? topics.all : topics.ofChannel(chanId);
    const [verdict, seq, ...nodes] = await this.#run<string[]>(
      'append',
      [...this.#keys.ofNode(this.#node.id), this.#keys.ended, ...this.#keys.ofChannel(chanId)],
      [
        append.epoch,
        this.#node.id,
        ...order,
        ...flags,
        append.made === undefined ? '' : JSON.stringify(append.made),
        ...limits,
        this.#name,
        String(this.lease),
        String(append.linger),
        topic,
        chanId,
        ...(body === null ? [] : [body]),
      ],
    );
    if (verdict === 'ok') return { seq: Number(seq), nodes: pairs(nodes) };
    if (verdict === 'ended') {
      const cause = new ChannelEndedError(chanId);
      throw new BackplaneError('The channel has ended on another node.', 'never', { cause });
    }
    if (verdict === 'epoch') throw this.#outdated();
    if (verdict === 'half') throw this.#half(seq as string);
    if (verdict === 'past') throw this.#past();
    throw new BackplaneError('It is not the turn of this write yet: it is tried again.', 'no');
  }

  async hold(channels: ReadonlyMap<string, Terms>): Promise<ReadonlyMap<string, number>> {
    const chanIds = [...channels.keys()];
    const keys = chanIds.flatMap((chanId) => this.#keys.ofChannel(chanId));
    const terms = [...channels].flatMap(([chanId, each]) => [chanId, JSON.stringify(each)]);
    const ended = await this.#run<string[]>(
      'hold',
      [this.#keys.hub, this.#keys.ended, ...keys],
      [String(this.keep), String(this.lease), this.#connected().topics.all, ...terms],
    );
    return new Map([...pairs(ended)].map(([index, seq]) => [chanIds[Number(index)] as string, seq]));
  }

  async find(chanIds: readonly string[]): Promise<Findings> {
    const names = new Map<string, Found>();
    const portions = portionsOf(chanIds, PORTION);
    const replies = await Promise.all(portions.map((some) => this.#findSome(some)));
    const [[epoch = '', forgotten] = []] = replies;
    if (epoch === 'epoch' || replies.some(([other]) => other !== epoch)) throw this.#outdated();
    for (const [index, some] of portions.entries()) {
      const [, , ...lines] = replies[index] as string[];
      for (const [place, chanId] of some.entries()) {
        const [terms = '', linger = '', lastEnd] = lines.slice(3 * place, 3 * place + 3);
        const found: Found = {
          terms: terms === '' ? undefined : this.#attemptTo(() => parseTerms(terms, chanId)),
          linger: linger === '' ? undefined : Number(linger),
          lastEnd: Number(lastEnd),
        };
        if (found.terms !== undefined || found.lastEnd > 0) names.set(chanId, found);
      }
    }
    return { epoch, forgotten: Number(forgotten), names };
  }

  #findSome(chanIds: readonly string[]): Promise<string[]> {
    const keys = chanIds.flatMap((chanId) => this.#keys.ofChannel(chanId).slice(0, 2));
    return this.#run('find', [this.#keys.hub, this.#keys.ended, ...keys], chanIds);
  }

  async subscribe(chanIds: readonly string[]): Promise<void> {
    const topics = this.#topicsOf(chanIds);
    await this.#call(({ subscriber }) => subscriber.subscribe(topics));
  }

  async unsubscribe(chanIds: readonly string[]): Promise<void> {
    const topics = this.#topicsOf(chanIds);
    const audiences = chanIds.map((chanId) => this.#keys.ofChannel(chanId)[2]);
    // In this order: who is waited for must still hear the question.
    await this.#run('leave', [this.#keys.hub, ...audiences], [this.#node.id, this.#name]);
    await this.#call(({ subscriber }) => subscriber.unsubscribe(topics));
  }

  async awaitChannels(listeners: ReadonlyMap<string, number>): Promise<void> {
    const calls = portionsOf([...listeners], PORTION).map((some) => {
      const audiences = some.map(([chanId]) => this.#keys.ofChannel(chanId)[2]);
      const counts = some.map(([, count]) => String(count));
      const args = [this.#node.id, this.#name, String(this.keep), ...counts];
      return this.#run<string[]>('await', [this.#keys.hub, ...audiences], args);
    });
    if ((await Promise.all(calls)).some(([verdict]) => verdict === 'past')) throw this.#past();
  }

  /** The first call makes the mark; what the next ones read is no younger. */
  async sync(questions: readonly Question[], mark: string): Promise<Snapshot> {
    let snapshot: Snapshot | undefined;
    for (const some of portions(questions)) {
      const { epoch, head, channels } = await this.#look(
        some,
        snapshot?.head,
        snapshot === undefined ? mark : '',
      );
      if (snapshot !== undefined && snapshot.epoch !== epoch) {
        throw this.#outdated();
      }
      snapshot = {
        epoch,
        head: snapshot?.head ?? head,
        channels: [...(snapshot?.channels ?? []), ...channels],
      };
    }
    return snapshot as Snapshot;
  }

  async tell(node: string | null, word: string): Promise<void> {
    const { topics } = this.#connected();
    const topic = node === null ? topics.all : topics.ofNode(node);
    await this.#call(({ commands }) => commands.publish(topic, `${VERSION} w ${word}`));
  }

  async nodes(): Promise<readonly string[]> {
    const keys = this.#keys.ofNode(this.#node.id).slice(0, 2);
    return this.#run<string[]>('nodes', keys, [this.#node.id, String(this.lease)]);
  }

  reset(cause: Error): void {
    this.#attempt?.end(cause);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#pause?.over();
    // What other nodes would find out by themselves, after the lease. A server that is stopped does not hear it.
    const timer = setTimeout(
      () => this.reset(CLOSED),
      this.#life === undefined ? 0 : Math.min(this.lease / 3, 500),
    );
    await this.#run('bye', this.#keys.ofNode(this.#node.id), [this.#node.id]).catch(() => {});
    clearTimeout(timer);
    this.reset(CLOSED);
    await this.#done;
  }

  /** Lives, from one pair of connections to the next. Never rejects. */
  async #live(): Promise<void> {
    for (let attempt = 0; !this.#closed; attempt += 1) {
      let ended = (_cause: Error): void => {};
      const end = new Promise<Error>((resolve) => {
        ended = resolve;
      });
      const { connector } = this.#settings;
      const listener = {
        failed: ended,
        message: (text: string, topic: string) => this.#hear(life, text, topic),
      };
      const [commands, subscriber] = [connector.make(listener), connector.make(listener)];
      const life: Life = {
        ...{ name: `${VERSION} ${uuid()}`, commands, subscriber, end: ended },
        ...{ pending: new Set(), refused: false },
      };
      this.#attempt = life;
      const opening = this.#open(life);
      const opened = await Promise.race([opening, end]);
      if (opened === undefined) {
        this.#life = life;
        this.#node.connected();
      }
      const cause = opened ?? (await end);
      this.#attempt = this.#life = undefined;
      this.#node.disconnected(unreachable(cause));
      if (life.refused) await this.#answers(life);
      else if (opened === undefined) attempt = 0;
      destroy(life);
      // A client may go on to connect what was destroyed while it did.
      void opening.then(() => destroy(life));
      if (!this.#closed) await this.#rest(shortened(Math.min(SHORTEST_MS * 2 ** attempt, LONGEST_MS)));
    }
  }

  /** Returns why not, if it fails. */
  async #open(life: Life): Promise<Error | undefined> {
    const { commands, subscriber, end } = life;
    // A server that is stopped takes a connection, and says nothing.
    const timer = setTimeout(() => end(new Error('Redis did not answer in time.')), this.lease / 3);
    try {
      const connects = await Promise.allSettled([commands.connect(), subscriber.connect()]);
      for (const connect of connects) if (connect.status === 'rejected') return connect.reason as Error;
      const topics = new Topics(this.#keys, commands.keyPrefix, await commands.database());
      await checkServer(commands, this.#keys, topics);
      // The greeting of what has been given up meanwhile would make Redis deaf to what came after it.
      if (this.#attempt !== life) return CLOSED;
      const version = await this.#evaluate<string>(
        commands,
        'hello',
        [this.#keys.hub, this.#keys.ended],
        [freshEpoch(), this.#node.id, life.name],
      );
      if (version !== String(VERSION)) return otherVersion(version);
      life.topics = topics;
      await subscriber.subscribe([topics.all, topics.ofNode(this.#node.id), topics.check]);
      await subscriber.unsubscribe([topics.check]);
      return undefined;
    } catch (error) {
      return error as Error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Waits for the answers that are under way: what Redis refused too was not applied, and without an answer nobody knows. */
  async #answers({ pending }: Life): Promise<void> {
    await Promise.race([Promise.allSettled(pending), this.#rest(this.lease / 3)]);
    this.#pause?.over();
  }

  /** Waits so many milliseconds, or until the link is closed. */
  async #rest(milliseconds: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#pause = {
        over: () => {
          clearTimeout(timer);
          resolve();
        },
      };
    });
  }

  async #look(questions: readonly Question[], top: number | undefined, mark: string): Promise<Snapshot> {
    const { topics } = this.#connected();
    const [epoch, head, now, ...lines] = await this.#run<[string, string, string, ...Line[]]>(
      'sync',
      [
        ...this.#keys.ofNode(this.#node.id),
        ...questions.flatMap(({ chanId }) => this.#keys.ofChannel(chanId)),
      ],
      [
        ...[
          this.#node.id,
          String(this.lease),
          String(this.keep),
          topics.ofNode(this.#node.id),
          mark,
          this.#name,
        ],
        top === undefined ? '' : String(top),
        ...questions.flatMap(({ from, listeners }) => [from === null ? '' : String(from), String(listeners)]),
      ],
    );
    if (epoch === 'epoch') throw this.#outdated();
    const channels = lines.map((line) => {
      const { chanId } = questions[Number(line[0])] as Question;
      return parseLine(line, { chanId, epoch, now: Number(now) }, (error) => this.#node.malformed(error));
    });
    return { epoch, head: Number(head), channels };
  }

  /** Redis has lost its data, or another node has found that it may have. */
  #outdated(): BackplaneError {
    this.#refuse(new Error('It has begun a new epoch.'));
    return new BackplaneError('Redis has begun a new epoch.', 'no');
  }

  /** Redis takes this connection for an earlier one, and rejects its commands. A new connection greets again. */
  #past(): BackplaneError {
    this.#refuse(new Error('Redis takes it for a connection that was given up.'));
    return new BackplaneError(
      'Redis takes this connection for one that was given up: it is made anew.',
      'no',
    );
  }

  /** The script failed after its entry stood in the log. The connection is made anew, and the write is sent again. */
  #half(message: string): BackplaneError {
    const cause = new Error(message);
    this.#refuse(cause);
    return new BackplaneError('Redis failed in the middle of a write: see the cause.', 'unknown', { cause });
  }

  /** Redis refuses what is under way, and what follows: the connection is made anew. */
  #refuse(cause: Error): void {
    const life = this.#life;
    if (life === undefined) return;
    life.refused = true;
    life.end(cause);
  }

  #hear(life: Life, message: string, topic: string): void {
    // It may take a while until Redis knows that a connection was given up.
    if (this.#closed || this.#attempt !== life || topic === life.topics?.check) return;
    const parsed = this.#attemptTo(() => parseMessage(message, topic, life.topics?.chanIdOf(topic) ?? ''));
    if (parsed === undefined) return;
    if (parsed.kind === 'entry') this.#node.receive(parsed.entry);
    else if (parsed.kind === 'made') this.#node.made(parsed.made);
    else if (parsed.kind === 'mark') this.#node.marked(parsed.text);
    else this.#node.hear(parsed.text);
  }

  /** Reads something. What is malformed is told, and ignored. */
  #attemptTo<Result>(read: () => Result): Result | undefined {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
      this.#node.malformed(error);
      return undefined;
    }
  }

  async #run<Reply>(op: string, keys: readonly string[], args: readonly string[]): Promise<Reply> {
    return this.#call(({ commands }) => this.#evaluate<Reply>(commands, op, keys, args));
  }

  async #evaluate<Reply>(
    commands: Connection,
    op: string,
    keys: readonly string[],
    args: readonly string[],
  ): Promise<Reply> {
    try {
      return (await commands.evalSha(SHA, keys, [op, ...args])) as Reply;
    } catch (error) {
      if (!(error as Error).message.startsWith('NOSCRIPT')) throw error;
      return (await commands.eval(SCRIPT, keys, [op, ...args])) as Reply;
    }
  }

  async #call<Reply>(call: (life: Life) => Promise<unknown>): Promise<Reply> {
    const life = this.#connected();
    const answer = call(life);
    life.pending.add(answer);
    try {
      return (await answer) as Reply;
    } catch (cause) {
      if (cause instanceof BackplaneError) throw cause;
      const error = cause as Error;
      const isRefusal = NOT_NOW.test(error.message) || isLasting(error.message);
      if (isRefusal && this.#life === life) this.#refuse(error);
      throw failed(error, this.#happenedOf(error));
    } finally {
      life.pending.delete(answer);
    }
  }

  /** Whether what was asked for happened all the same. */
  #happenedOf(cause: Error): BackplaneError['happened'] {
    const { message } = cause;
    if (this.#settings.connector.isUnsent(cause) || NOT_NOW.test(message)) return 'no';
    // An answer of the server's is an answer, unless the script was stopped halfway.
    return /^[A-Z]+ (?!user_script)/.test(message) ? 'never' : 'unknown';
  }

  /** @throws BackplaneError while there is no connection */
  #connected(): Life & { readonly topics: Topics } {
    const life = this.#life;
    if (life?.topics === undefined) throw unreachable();
    return life as Life & { readonly topics: Topics };
  }

  get #name(): string {
    return this.#life?.name ?? '';
  }

  #topicsOf(chanIds: readonly string[]): string[] {
    const { topics } = this.#connected();
    return chanIds.map((chanId) => topics.ofChannel(chanId));
  }
}

/** Lists of so many items at the most. One at the least. */
function portionsOf<Item>(items: readonly Item[], size: number): (readonly Item[])[] {
  const count = Math.max(Math.ceil(items.length / size), 1);
  return Array.from({ length: count }, (_, index) => items.slice(index * size, (index + 1) * size));
}

/** One portion at the least. */
function* portions(questions: readonly Question[]): IterableIterator<readonly Question[]> {
  let portion: Question[] = [];
  let weight = 0;
  for (const question of questions) {
    weight += question.from === null ? WHOLE : 1;
    if (weight > PORTION) {
      yield portion;
      portion = [];
      weight = question.from === null ? WHOLE : 1;
    }
    portion.push(question);
  }
  yield portion;
}

function pairs(list: readonly string[]): ReadonlyMap<string, number> {
  const map = new Map<string, number>();
  for (let index = 0; index < list.length; index += 2)
    map.set(list[index] as string, Number(list[index + 1]));
  return map;
}

// Refusals by which a server says that it will do it later, or another one will, or its operator has to do something first.
// Redis 7.0 says the last one for NOPERM in a script.
const NOT_NOW =
  /^(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY|UNBLOCKED|NOREPLICAS|NOPERM|ERR .*The user executing the script can't)/;

function destroy({ commands, subscriber }: Life): void {
  commands.destroy();
  subscriber.destroy();
}
