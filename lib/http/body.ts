import { isUtf8 } from 'node:buffer';
import type { Request } from '../transport/stream.js';
import { Refusal } from './reply.js';

/**
 * The text of a request's body, as it was sent; `undefined` where the client goes before the end of it. Never more than
 * `limit` bytes of it are held, whatever the chunks. How long a client may take is for the server to say (`requestTimeout`).
 */
export async function textOf(request: Request, limit: number): Promise<string | Refusal | undefined> {
  const before = bodyBefore(request);
  const bytes = before === undefined ? await read(request, limit) : before;
  if (bytes === undefined || bytes instanceof Refusal) return bytes;
  if (typeof bytes !== 'string' && !(bytes instanceof Uint8Array)) {
    // What was parsed can be put into text again, but not into the same: of the number 12345678901234567890 the digits are gone.
    return new Refusal(
      500,
      'BODY_PARSED',
      'The body was parsed before it came here: mount this before the parser.',
    );
  }
  if (Buffer.byteLength(bytes) > limit) return tooLarge(limit);
  if (typeof bytes === 'string') return bytes;
  // Not by a decoder that puts U+FFFD for what is malformed.
  if (!isUtf8(bytes)) return new Refusal(400, 'MALFORMED', 'The body is not UTF-8.');
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}

/**
 * What is left of a body that somebody has read before, such as `express.text()`; `undefined` where nobody has. Not judged
 * by `request.body`, which the parsers of Express 4 set to `{}` where they read nothing.
 */
export function bodyBefore(request: Request & { body?: unknown }): unknown {
  if (request.readableDidRead) return request.body ?? null;
  // Read to its end, and there was nothing.
  return request.readableEnded ? '' : undefined;
}

async function read(request: Request, limit: number): Promise<Buffer | Refusal | undefined> {
  const { 'content-length': length, 'content-encoding': coding, 'content-type': type } = request.headers;
  if (coding !== undefined && coding.toLowerCase() !== 'identity') {
    const headers = { 'Accept-Encoding': 'identity' };
    return new Refusal(415, 'UNSUPPORTED_CODING', 'Send the body without a content coding.', headers);
  }
  const [, charset = 'utf-8'] = /;\s*charset\s*=\s*"?([^\s;"]*)/i.exec(type ?? '') ?? [];
  if (!/^(utf-?8|us-ascii)$/i.test(charset)) {
    return new Refusal(415, 'UNSUPPORTED_CHARSET', 'Send the body as UTF-8.');
  }
  if (Number(length) > limit) return tooLarge(limit);

  return new Promise((resolve) => {
    // One buffer, not a list of pieces: a stranger may send chunks of one byte, and a piece costs 200 bytes more than it holds.
    let bytes = Buffer.alloc(0);
    let size = 0;
    const take = (piece: Buffer) => {
      const total = size + piece.length;
      if (total > limit) {
        done(tooLarge(limit));
        return;
      }
      if (total > bytes.length) {
        const larger = Buffer.allocUnsafe(Math.min(limit, Math.max(total, 2 * bytes.length)));
        bytes.copy(larger, 0, 0, size);
        bytes = larger;
      }
      piece.copy(bytes, size);
      size = total;
    };
    const done = (result: Buffer | Refusal | undefined) => {
      request.off('data', take).off('end', end).off('close', close);
      // What is not read of a request keeps its connection from being used again; and who has a connection closed in the
      // middle of what he sends may never see the answer.
      request.resume();
      resolve(result);
    };
    // Over HTTP/2 what breaks off ends as well.
    const end = () => done(request.aborted ? undefined : bytes.subarray(0, size));
    const close = () => done(undefined);
    request.on('data', take).on('end', end).on('close', close);
  });
}

function tooLarge(limit: number): Refusal {
  return new Refusal(413, 'BODY_TOO_LARGE', `The body may have ${limit} bytes at the most.`);
}
