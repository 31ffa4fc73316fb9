import { inspect } from 'node:util';
import { InvalidSourceError } from '../core/errors.js';

/** A web ReadableStream, as far as it is used: also one that can't be iterated, as in some browsers' types. */
export interface ReadableStreamLike<Item> {
  /** Whether something else reads it. */
  readonly locked: boolean;
  /** Begins to read it. */
  getReader(): StreamReaderLike<Item>;
}

/** What reads a web ReadableStream, as far as it is used. */
export interface StreamReaderLike<Item> {
  /** The next chunk. */
  read(): Promise<StreamChunkLike<Item>>;
  /** Has the stream give nothing more. */
  cancel(reason?: unknown): Promise<void>;
}

/** A chunk of a web ReadableStream, or its end. */
export interface StreamChunkLike<Item> {
  /** Whether there are no more. */
  done: boolean;
  /** The item, unless there are no more. */
  value?: Item | undefined;
}

/**
 * What gives items one after the other: an async iterable (a generator, the stream of an SDK, a `readline` interface),
 * a Readable of Node, a web ReadableStream, or an iterable.
 */
export type Source<Item> = AsyncIterable<Item> | Iterable<Item> | ReadableStreamLike<Item>;

/** A source that is being read. */
export interface OpenSource<Item> {
  /** The next item; rejects with the source's own error. */
  next(): Promise<IteratorResult<Item, unknown>>;
  /** Has it give nothing more, and let go of what it holds. May throw or reject with what the source does then. */
  stop(reason: unknown): unknown;
}

/**
 * Begins to read a source.
 * @throws InvalidSourceError for what is none, and for a ReadableStream that another one reads
 */
export function openSource<Item>(source: Source<Item>): OpenSource<Item> {
  const given = source as Partial<AsyncIterable<Item> & Iterable<Item> & ReadableStreamLike<Item>> | null;
  // Both can be iterated, unit by unit and byte by byte, which nobody means.
  if (typeof given === 'object' && given !== null && !ArrayBuffer.isView(given)) {
    if (typeof given.getReader === 'function') return openWebStream(given as ReadableStreamLike<Item>);
    if (typeof given[Symbol.asyncIterator] === 'function') return openAsync(given as AsyncIterable<Item>);
    if (typeof given[Symbol.iterator] === 'function') return openIterator(each(given as Iterable<Item>));
  }
  throw new InvalidSourceError(
    `A source must be an async iterable, a Readable, a ReadableStream or an iterable of items, not ${inspect(source, { depth: 0, maxStringLength: 40, maxArrayLength: 4, breakLength: Infinity })}: ` +
      'call a generator function, and put one value into an array.',
  );
}

function openAsync<Item>(source: AsyncIterable<Item>): OpenSource<Item> {
  const open = openIterator(source[Symbol.asyncIterator]());
  const { destroy, on } = source as Partial<NodeJS.ReadableStream> & { destroy?: () => void };
  if (typeof destroy !== 'function' || typeof on !== 'function') return open;
  const stop = () => {
    // What is cut off may say so by an error, and without a listener that would be an uncaught one.
    on.call(source as NodeJS.ReadableStream, 'error', () => {});
    destroy.call(source);
  };
  // Its iterator destroys a Readable only once a chunk that is waited for has come.
  return { next: open.next, stop };
}

function openIterator<Item>(iterator: AsyncIterator<Item>): OpenSource<Item> {
  return { next: () => iterator.next(), stop: () => iterator.return?.() };
}

function openWebStream<Item>(source: ReadableStreamLike<Item>): OpenSource<Item> {
  if (source.locked) {
    throw new InvalidSourceError(
      'This ReadableStream is locked, since something else reads it: pass one branch of its tee().',
    );
  }
  // Not its iterator, which cancels the stream only once a chunk that is waited for has come.
  const reader = source.getReader();
  return {
    next: () => reader.read() as Promise<IteratorResult<Item, unknown>>,
    stop: (reason) => reader.cancel(reason),
  };
}

// As `for await` does: promises are awaited, and the iterator is told to return.
async function* each<Item>(source: Iterable<Item>): AsyncGenerator<Awaited<Item>> {
  yield* source;
}
