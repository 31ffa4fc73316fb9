// The part of a handle of Node's that tells what became of bytes: that of a socket, of TLS, or of a stream of HTTP/2.
// Before Node 24.22 a method gets the request of a write, and returns a status. From then on it gets null, and returns a
// status where the write is complete, else the request.
interface WriteRequest {
  oncomplete: ((this: WriteRequest, status: number, ...rest: unknown[]) => void) | null;
}
type WriteMethod = (
  this: Handle,
  request: WriteRequest | null,
  data: unknown,
  ...rest: unknown[]
) => number | WriteRequest;

export interface Handle {
  /** Bytes that were given to it, whatever became of them. */
  readonly bytesWritten: number;
  /** Bytes of them that libuv still holds, because the kernel did not take them. */
  readonly writeQueueSize: number;
  /** Bytes that came from it. */
  readonly bytesRead: number;
  writeBuffer: WriteMethod;
  writev: WriteMethod;
  writeLatin1String: WriteMethod;
  writeUtf8String: WriteMethod;
  writeAsciiString: WriteMethod;
  writeUcs2String: WriteMethod;
}

const METHODS = [
  'writeBuffer',
  'writev',
  'writeLatin1String',
  'writeUtf8String',
  'writeAsciiString',
  'writeUcs2String',
] as const;

export interface Given {
  /** What the write consists of. */
  readonly pieces: readonly Buffer[];
  readonly length: number;
}

/**
 * Tells of each write that a handle is given and does not refuse at once. What `given` returns is called when the write is
 * complete, unless it is at once.
 */
export function watch(handle: Handle, given: (write: Given) => (status: number) => void): void {
  for (const name of METHODS) {
    const original = handle[name];
    handle[name] = (request, data, ...rest) => {
      const before = handle.bytesWritten;
      const result = original.call(handle, request, data, ...rest);
      if (typeof result === 'number' && result !== 0) return result;
      const pieces = piecesOf(data, rest[0] === true);
      const complete = given({ pieces, length: handle.bytesWritten - before });
      const pending = typeof result === 'number' ? request : result;
      if (pending !== null) onComplete(pending, complete);
      return result;
    };
  }
}

function onComplete(request: WriteRequest, complete: (status: number) => void): void {
  // Node sets it before, or after the method returns.
  let { oncomplete } = request;
  Object.defineProperty(request, 'oncomplete', {
    configurable: true,
    set: (handler: WriteRequest['oncomplete']) => {
      oncomplete = handler;
    },
    get:
      () =>
      (status: number, ...rest: unknown[]) => {
        complete(status);
        oncomplete?.call(request, status, ...rest);
      },
  });
}

/** Buffers, and strings, all of them latin1 here. */
function piecesOf(data: unknown, allBuffers: boolean): readonly Buffer[] {
  if (!Array.isArray(data)) return [bufferOf(data)];
  // Of a writev that is not of buffers alone, every second element names an encoding.
  return (allBuffers ? data : data.filter((_, index) => index % 2 === 0)).map(bufferOf);
}

function bufferOf(piece: unknown): Buffer {
  return Buffer.isBuffer(piece) ? piece : Buffer.from(piece as string, 'latin1');
}
