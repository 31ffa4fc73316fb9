import { type FileHandle, open, stat } from 'node:fs/promises';
import { addAbortSignal } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { setTimeout as delay } from 'node:timers/promises';

/** Lines that a file begins with, as with `tail`. */
const FIRST_LINES = 10;
/** Milliseconds between two looks at a file: a watcher would be told sooner, but not on every file system. */
const POLL = 250;
/** Bytes read at a time. */
const CHUNK = 16 * 1024;
/** Characters of a line; a longer one comes in pieces. */
const LONGEST = 16 * 1024;
/** So many lines are passed on at once, then a pause of milliseconds: `yes | npm start` must not flood a browser. */
const BURST = 100;
const PAUSE = 100;

const LF = 10;

/**
 * Calls `onLine` for each line of the file at `path`, from its last ten on and then as it grows; without a path,
 * for each line of standard input, unless that is a terminal. What can't be read is said on standard error.
 * Returns the switch that stops it.
 */
export function watchLines(path: string | undefined, onLine: (line: string) => void): () => void {
  const stopping = new AbortController();
  const { signal } = stopping;
  if (path !== undefined) void pass(follow(path, signal), onLine, signal);
  else if (!process.stdin.isTTY) void pass(addAbortSignal(signal, process.stdin), onLine, signal);
  return () => stopping.abort();
}

async function pass(
  chunks: AsyncIterable<Buffer>,
  onLine: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  try {
    let passed = 0;
    for await (const line of linesOf(chunks)) {
      onLine(line);
      passed += 1;
      if (passed % BURST === 0) await delay(PAUSE, undefined, { signal });
    }
  } catch (error) {
    if (!signal.aborted) complain(`the lines end here: ${(error as Error).message}`);
  }
}

async function* linesOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<string> {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  for await (const chunk of chunks) {
    const lines = (rest + decoder.write(chunk)).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) yield line.replace(/\r$/, '');
    while (rest.length > LONGEST) {
      // The cut may go through a surrogate pair, and a write refuses half of one.
      yield rest.slice(0, LONGEST).toWellFormed();
      rest = rest.slice(LONGEST).toWellFormed();
    }
  }
  rest += decoder.end();
  if (rest !== '') yield rest;
}

/** The bytes of a file as it grows, for ever: also when it is truncated, replaced, or not there for a while. */
async function* follow(path: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  let position: number | undefined;
  let inode: number | undefined;
  let inLine = false;
  let complaint: string | undefined;

  for (;;) {
    let file: FileHandle | undefined;
    try {
      const { ino, size } = await statFile(path);
      if (position !== undefined && (ino !== inode || size < position)) {
        // Truncated or replaced: what is there now is no continuation of the last line.
        if (inLine) yield Buffer.of(LF);
        inLine = false;
        position = 0;
      }
      inode = ino;
      if (size > (position ?? 0)) {
        file = await open(path);
        position ??= await beginningOf(file, size);
        const options = { start: position, highWaterMark: CHUNK, autoClose: false };
        for await (const chunk of file.createReadStream(options) as AsyncIterable<Buffer>) {
          position += chunk.length;
          inLine = chunk.at(-1) !== LF;
          yield chunk;
        }
      }
      position ??= 0;
      complaint = undefined;
    } catch (error) {
      const { message } = error as Error;
      if (message !== complaint) complain(`${message}; the channel tail waits for it`);
      complaint = message;
    } finally {
      await file?.close();
    }
    await delay(POLL, undefined, { signal });
  }
}

async function statFile(path: string): Promise<{ ino: number; size: number }> {
  const stats = await stat(path);
  // Said before it is opened: to open a named pipe is to wait for its writer.
  if (!stats.isFile()) throw new Error(`${path} is not a regular file`);
  return stats;
}

/** Where the last ten lines begin, or what of them the last chunk holds. */
async function beginningOf(file: FileHandle, size: number): Promise<number> {
  const from = Math.max(0, size - CHUNK);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(size - from), 0, size - from, from);
  // An LF at the very end ends the last line, and begins none.
  let at = bytesRead - 1;
  for (let lines = 0; lines < FIRST_LINES; lines += 1) {
    at = at > 0 ? buffer.lastIndexOf(LF, at - 1) : -1;
  }
  return from + at + 1;
}

function complain(message: string): void {
  console.error(`express-comet demo: ${message}`);
}
