import { once } from 'node:events';
import type { RawClient } from './client.js';

/** One answer of HTTP/1.1 as it came over the wire, taken apart. */
export interface Answer {
  status: number;
  headers: Record<string, string>;
  /** The body chunk by chunk, as it was sent; the last is empty once the body is complete. */
  chunks: string[];
  /** What follows on the connection. */
  rest: string;
}

/** Takes apart the first answer of a text, of which one character is one byte. */
export function answerOf(text: string): Answer {
  const headEnd = text.indexOf('\r\n\r\n');
  const [statusLine = '', ...lines] = text.slice(0, headEnd).split('\r\n');
  const headers = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 2)]),
  );
  const answer: Answer = { status: Number(statusLine.split(' ')[1]), headers, chunks: [], rest: '' };
  let rest = text.slice(headEnd + 4);
  if (headers['transfer-encoding'] === 'chunked') {
    for (let size = chunkSize(rest); size !== undefined; size = chunkSize(rest)) {
      const start = rest.indexOf('\r\n') + 2;
      answer.chunks.push(rest.slice(start, start + size));
      rest = rest.slice(start + size + 2);
      if (size === 0) break;
    }
  }
  answer.rest = rest;
  return answer;
}

function chunkSize(text: string): number | undefined {
  const [, digits] = /^([\da-f]+)\r\n/.exec(text) ?? [];
  return digits === undefined ? undefined : Number.parseInt(digits, 16);
}

/** Reads until the server has ended its side of the connection. */
export async function ended(client: RawClient): Promise<Answer> {
  client.read();
  if (!client.socket.readableEnded) await once(client.socket, 'end');
  return answerOf(client.text);
}
