import { Duplex } from 'node:stream';

type Done = (error?: Error | null) => void;

/** A connection in memory, as the server sees it. While it is blocked, it holds the bytes of one write and takes no more. */
export class Connection extends Duplex {
  /** Everything that the server has handed over. One unit is one byte. */
  text = '';
  #isBlocked: boolean;
  #held: Done | undefined;

  constructor(isBlocked: boolean) {
    super({ decodeStrings: false });
    this.#isBlocked = isBlocked;
  }

  set isBlocked(isBlocked: boolean) {
    this.#isBlocked = isBlocked;
    if (!isBlocked) this.trickle();
  }

  /** Lets the held bytes go. */
  trickle(): void {
    const held = this.#held;
    this.#held = undefined;
    held?.();
  }

  override _read(): void {}

  override _write(chunk: string | Buffer, _encoding: BufferEncoding, done: Done): void {
    this._writev([{ chunk }], done);
  }

  override _writev(chunks: readonly { chunk: string | Buffer }[], done: Done): void {
    const before = this.text.length;
    for (const { chunk } of chunks) this.text += typeof chunk === 'string' ? chunk : chunk.toString('latin1');
    if (this.#isBlocked && this.text.length > before) this.#held = done;
    else done();
  }

  /** As that of `net.Socket`. */
  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
  }
}
