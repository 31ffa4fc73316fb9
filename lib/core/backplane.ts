/**
 * What an engine between nodes must keep. A node is one hub; an engine connects any number of them.
 *
 * WHO IS REACHED. An entry reaches every node that was subscribed to its channel when it was appended, the node that
 * appended it included, for as long as the node's connection lives; the end of a channel reaches every node, or within a
 * process every node that holds it. A subscription is to a name: it goes on when the channel ends, and with the next channel
 * of the name. That a channel is made reaches every node, within a process every other one, before any entry of the
 * channel. A word that is told reaches the node it is for, or all, if it is connected then.
 *
 * WHAT IS ORDERED. All entries of all channels stand in one order, that of their `seq`. A node receives what it is
 * subscribed to in that order, and its marks where they stand in it: what was appended before a mark was made arrives
 * before that mark, or never. That a channel was made arrives where it stands among them. Entries of one node that were appended in turn stand in that order.
 *
 * WHAT IS RETAINED. The entries of a channel, up to the bounds that its last append named, or a quarter more. Each tells the `seq` of the
 * one before it in its channel, so that a hole shows. A channel that has ended is retained, with its end, for the time that
 * the append of its end named, unless one of its name is made before. The position of an end is remembered longer.
 *
 * WHAT FAILS, AND HOW. An append has happened once it resolves, and once only, also where it was tried again. Where it
 * rejects, a BackplaneError says whether it may have happened; where the channel has ended, its cause is a
 * ChannelEndedError. An engine that can't keep the order any more, since it has
 * lost what it retained or may have, begins a new epoch: no position of the old one means anything then.
 *
 * @packageDocumentation
 */

import type { MalformedMessageError } from './errors.js';
import type { Position } from './position.js';

export type { Position } from './position.js';

/** One event of a channel, or the channel's end. */
export interface Entry {
  /** The id of its channel. */
  readonly chanId: string;
  /** The life of the order in which it stands. */
  readonly epoch: string;
  /** Where it stands: whole numbers, one after the other for all channels together. The first may be any. */
  readonly seq: number;
  /** The `seq` of the entry before it in its channel, or where the order stood when there was none. */
  readonly previous: number;
  /** The event without its id, as `frame.ts` made it; `null` is the end of the channel. */
  readonly body: string | null;
  /** How long it has been retained, in milliseconds. */
  readonly age: number;
  /** The write that awaits an outcome, if it does. */
  readonly asker: Asker | undefined;
  /** For the end of a channel: how many milliseconds after it the channel can still be read. Default 0. */
  readonly linger?: number | undefined;
}

/** Who made a write, and which of theirs it was. */
export interface Asker {
  /** The id of the node. */
  readonly node: string;
  /** The `number` of its append. */
  readonly number: number;
}

/** What a channel retains at the most; `age` in milliseconds. */
export interface Bounds {
  /** Entries. */
  readonly frames: number;
  /** Bytes of their bodies. */
  readonly bytes: number;
  /** How old one may get, or `null`: as old as it likes. */
  readonly age: number | null;
}

/** What is to be appended. */
export interface Append {
  /** The id of the channel. */
  readonly chanId: string;
  /** The epoch that the writer knows: in another one nothing is appended. */
  readonly epoch: string;
  /** As in an `Entry`: the event, or `null` for the end of the channel. */
  readonly body: string | null;
  /** What the channel retains from now on. */
  readonly bounds: Bounds;
  /** 1, 2, 3 … for each node: what is tried again has the same. */
  readonly number: number;
  /** The number of the append that must have happened before this one, or 0. */
  readonly after: number;
  /** Every number up to here needs no more protection against being appended twice. */
  readonly settled: number;
  /** Whether it may have happened already. */
  readonly again: boolean;
  /**
   * The channel is made, on these terms, and nothing else is appended: a new one, where one of its name has ended. It has
   * its place among the appends of its node.
   */
  readonly made: Terms | undefined;
  /** For the end of a channel: how many milliseconds it can still be read, on every node. */
  readonly linger: number;
  /** Whether its outcome is awaited: the entry names its asker then, and the reply who will answer. */
  readonly asks: boolean;
}

/** An append has happened. */
export interface Appended {
  /** Where it stands now. Of a channel that is made: ends up to here are of earlier channels of its name. */
  readonly seq: number;
  /** The nodes that take it, and how many listeners each was last known to have; nobody, where it was not asked for. */
  readonly nodes: ReadonlyMap<string, number>;
}

/** Which channels a node wants to know of, and from where on. */
export interface Question {
  /** The id of the channel. */
  readonly chanId: string;
  /** The `seq` of the last entry that is known, or `null` for all that is retained. */
  readonly from: number | null;
  /** Listeners on this node. After `sync` the node takes each append to channels of this name, until it unsubscribes. */
  readonly listeners: number;
}

/** What an engine retains of a channel. */
export interface Retained {
  /** The id of the channel. */
  readonly chanId: string;
  /** Up to here all is of another channel of that name, which has ended. */
  readonly begun: number;
  /** Nothing of it stands up to here: where the order stood when it was made. At least `begun`. */
  readonly made: number;
  /** Up to here a channel of that name may have ended before. At least `begun`, and more where ends were forgotten. */
  readonly lastEnd: number;
  /** The `seq` of its last entry, retained or not; where the order stood, for a channel that it did not know. */
  readonly last: number;
  /** Those after the position that was asked for, in order. */
  readonly entries: readonly Entry[];
}

/** A channel was made. */
export interface Made extends Pick<Retained, 'chanId' | 'made' | 'lastEnd' | 'last'> {
  /** The life of the order in which it was made. */
  readonly epoch: string;
  /** How it is made on another node. */
  readonly terms: Terms;
}

/** What an engine knows of a name. */
export interface Found {
  /** How the channel is made on another node; `undefined` where there is none. */
  readonly terms: Terms | undefined;
  /**
   * For how many milliseconds it can still be read, where it has ended: with 0 by nodes only that wait for the name, and if
   * they are in time. `undefined` where it lives, or there is none.
   */
  readonly linger: number | undefined;
  /** The `seq` of the last end of a channel of this name that is remembered, or 0. */
  readonly lastEnd: number;
}

/** What an engine knows of names, at one moment. */
export interface Findings {
  /** The life of the order. */
  readonly epoch: string;
  /** Ends up to this `seq` may have been forgotten, of any name. */
  readonly forgotten: number;
  /** Each name of which something is known. */
  readonly names: ReadonlyMap<string, Found>;
}

/** The order at one moment. */
export interface Snapshot {
  /** The life of the order. */
  readonly epoch: string;
  /** The `seq` of the last entry of all. */
  readonly head: number;
  /** The channels that have something to tell, and those of which all was asked for. */
  readonly channels: readonly Retained[];
}

/** How a channel is made on a node that did not make it. */
export interface Terms {
  /** What it retains. */
  readonly log: Bounds;
  /** What becomes of a listener that fell off the log. */
  readonly lag: 'close' | 'latest';
  /** Retained frames that a newcomer gets. */
  readonly rewind: number;
}

/** What a node asks of any backplane. */
interface AnyLink {
  /**
   * Milliseconds after which a node that did not `sync` is taken for dead: `nodes` does not list it. `append` may still name it
   * while its connection seems to be there.
   */
  readonly lease: number;
  /** Milliseconds after which a channel that no node has held, in `hold` or `sync`, may be forgotten. */
  readonly keep: number;
  /** Appends an event, or an end, to what stands in order. */
  append(append: Append): Appended | Promise<Appended>;
  /** Which channels of these names there are, alive or lingering, and which have ended. */
  find(chanIds: readonly string[]): Findings | Promise<Findings>;
  /** Tells a node, or all of them. */
  tell(node: string | null, word: string): void | Promise<void>;
  /** The nodes that are alive. */
  nodes(): Promise<readonly string[]>;
  /** Leaves for good: from the call on, the node is told of nothing that comes later in the order. */
  close(): Promise<void>;
}

/** A link to another process. Every promise may reject with a BackplaneError. */
export interface RemoteLink extends AnyLink {
  /** By its absence a node tells this link from a direct one. */
  readonly direct?: undefined;
  /** Has happened once it resolves; where it rejects, the error's `happened` says whether it may have. */
  append(append: Append): Promise<Appended>;
  /**
   * Keeps channels known to the other nodes, and makes known again what was forgotten. Returns those that have ended, each
   * with the `seq` of its end.
   */
  hold(channels: ReadonlyMap<string, Terms>): Promise<ReadonlyMap<string, number>>;
  /** Has entries of all channels of these names arrive, surely, once it resolves. None of them need exist. */
  subscribe(chanIds: readonly string[]): Promise<void>;
  /** Has them arrive no more. The node takes no append to them that comes later. */
  unsubscribe(chanIds: readonly string[]): Promise<void>;
  /**
   * Says that so many listeners wait here for channels of these names. From then on the node takes each append to them, as
   * it does after `sync`, until it unsubscribes. No channel is made by that.
   */
  awaitChannels(listeners: ReadonlyMap<string, number>): Promise<void>;
  /**
   * Marks a moment in the order, and says what stood before it. The mark arrives where everything else does. Keeps
   * this node alive, and the channels known.
   */
  sync(questions: readonly Question[], mark: string): Promise<Snapshot>;
  /** Doubts the connection: it is made anew. */
  reset(cause: Error): void;
}

/**
 * A link within the process: what it is asked has happened, and was received, when the call returns; or, from within
 * `receive`, when that does. The node is subscribed to all that it holds. A channel that has ended is held no more, and is
 * new when it is held again.
 */
export interface DirectLink extends AnyLink {
  /** What it can do at once. */
  readonly direct: Direct;
  /** Has happened, and was received by every node, when it returns. */
  append(append: Append): Appended;
  /** Says it at once. */
  find(chanIds: readonly string[]): Findings;
}

/** What a direct link can do at once. */
export interface Direct {
  /** Where the order stands. */
  readonly position: Position;
  /** What the other nodes retain of a channel. */
  recall(chanId: string): Retained | undefined;
  /** Makes a channel known, and has its entries arrive here. */
  hold(chanId: string, terms: Terms): void;
}

/** What a node asks of its backplane. */
export type Link = RemoteLink | DirectLink;

/** A node, as its backplane sees it. */
export interface Node {
  /** Unique among all nodes. */
  readonly id: string;
  /** The connection is there, and nothing is subscribed. */
  connected(): void;
  /**
   * It is not; nothing arrives. A BackplaneError whose `happened` is `never` says that no other attempt will succeed before
   * somebody has mended the cause, such as a wrong password.
   */
  disconnected(cause: Error): void;
  /** An entry of a channel to which the node is subscribed, in order. */
  receive(entry: Entry): void;
  /** A mark that `sync` has made, where it stands among the entries. */
  marked(mark: string): void;
  /** A channel was made, anew where one of its name had ended. */
  made(made: Made): void;
  /** What another node has told this one, or all. */
  hear(word: string): void;
  /** Something has come that is malformed, and the engine goes on without it. */
  malformed(error: MalformedMessageError): void;
  /** What the node itself retains, for an engine that retains nothing. */
  recall(chanId: string): Retained | undefined;
}

/** An engine: carries writes between nodes, orders them, and retains them. */
export interface Backplane {
  /** For people: `in process`, `redis`. */
  readonly name: string;
  /** Connects a node. Never throws for a server that is away: it is `connected` when that is there, and not before this returns. */
  connect(node: Node): Link;
}
