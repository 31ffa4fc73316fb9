import { createHash } from 'node:crypto';
import type { PublisherSettings } from '../core/options.js';
import { later, Refusal, type Reply } from './reply.js';

// What draft-ietf-httpapi-idempotency-key-header-07 asks for, but that its keys are those of one process.

interface Use {
  readonly fingerprint: string;
  readonly at: number;
  /** While there is none, the request is being carried out. */
  reply: Reply | undefined;
}

/** What was answered to requests that had a key, so that their repetition is answered the same and does nothing. */
export class Idempotency {
  readonly #limits: PublisherSettings['idempotency'];
  // The oldest first.
  readonly #uses = new Map<string, Use>();

  constructor(limits: PublisherSettings['idempotency']) {
    this.#limits = limits;
  }

  /** Keys that are remembered. */
  get size(): number {
    return this.#uses.size;
  }

  /**
   * Carries a request out, unless its key was used before. What is refused has not happened: its key is free again. That is
   * decided when this returns: of two that come at once, one is carried out.
   * @param key of everybody's, one string each
   * @param fingerprint the same for the same request
   * @param now in milliseconds of `performance.now()`
   */
  once(key: string, fingerprint: string, now: number, carryOut: () => Promise<Reply>): Promise<Reply> {
    this.#expire(now);
    const earlier = this.#earlier(key, fingerprint);
    if (earlier !== undefined) return Promise.resolve(earlier);
    if (!this.#hasRoom()) {
      const full = later(503, 'TOO_MANY_KEYS', 'As many requests as may be are being carried out.');
      return Promise.resolve(full);
    }
    const use: Use = { fingerprint, at: now, reply: undefined };
    this.#uses.set(key, use);
    return this.#settled(key, use, carryOut());
  }

  #earlier(key: string, fingerprint: string): Reply | undefined {
    const use = this.#uses.get(key);
    if (use === undefined) return undefined;
    if (use.fingerprint !== fingerprint) {
      return new Refusal(
        422,
        'KEY_REUSED',
        'Another request has had this Idempotency-Key: take a fresh one.',
      );
    }
    return use.reply ?? later(409, 'IN_PROGRESS', 'The same request is being carried out.');
  }

  async #settled(key: string, use: Use, carriedOut: Promise<Reply>): Promise<Reply> {
    try {
      const reply = await carriedOut;
      if (reply.status < 300) use.reply = reply;
      return reply;
    } finally {
      if (use.reply === undefined) this.#uses.delete(key);
    }
  }

  /** Lets go what is too old. What is being carried out stays. */
  #expire(now: number): void {
    for (const [key, { at, reply }] of this.#uses) {
      if (now - at <= this.#limits.age) return;
      if (reply !== undefined) this.#uses.delete(key);
    }
  }

  /** Lets go the oldest for one more. What is being carried out stays. */
  #hasRoom(): boolean {
    for (const [key, { reply }] of this.#uses) {
      if (this.#uses.size < this.#limits.keys) return true;
      if (reply !== undefined) this.#uses.delete(key);
    }
    return this.#uses.size < this.#limits.keys;
  }
}

/** A short string, the same for the same parts and no others. */
export function digest(...parts: readonly (string | undefined)[]): string {
  const hash = createHash('sha256');
  // With their lengths, so that two lists of parts are never one text.
  for (const part of parts) hash.update(part === undefined ? '-' : `${part.length}:${part}`);
  return hash.digest('base64');
}

/**
 * The key in the header: a String of RFC 8941 §3.3.3, in its quotes, as the draft has it; or bare, as most clients send it.
 * @returns `undefined` for none
 */
export function keyOf(header: string | undefined): string | Refusal | undefined {
  if (header === undefined) return undefined;
  const quoted = /^"((?:[ !#-[\]-~]|\\["\\])+)"$/.exec(header)?.[1];
  const key = quoted === undefined ? header : quoted.replace(/\\(.)/g, '$1');
  if (key.length <= 255 && (quoted !== undefined || /^[!#-~][!-~]*$/.test(key))) return key;
  return new Refusal(400, 'INVALID_KEY', 'An Idempotency-Key has 1 to 255 visible characters of ASCII.');
}
