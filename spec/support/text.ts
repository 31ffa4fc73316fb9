import { EventEmitter, once } from 'node:events';
import type { Readable } from 'node:stream';

/** What comes out of a stream of text, whatever it is: a response, a decompressor, the output of a process. */
export class Text {
  text = '';
  #closed = false;
  readonly #told = new EventEmitter();

  constructor(stream: Readable) {
    stream.setEncoding('utf8');
    stream.on('data', (piece: string) => {
      this.text += piece;
      this.#told.emit('change');
    });
    // One that breaks off is text that never comes.
    stream.on('error', () => {});
    stream.on('close', () => {
      this.#closed = true;
      this.#told.emit('change');
    });
  }

  /** Waits until the text holds this, or the stream has closed; returns whether it does. */
  async until(part: string): Promise<boolean> {
    while (!this.text.includes(part) && !this.#closed) await once(this.#told, 'change');
    return this.text.includes(part);
  }

  /** Waits until the stream has closed; returns all of its text. */
  async all(): Promise<string> {
    while (!this.#closed) await once(this.#told, 'change');
    return this.text;
  }
}
