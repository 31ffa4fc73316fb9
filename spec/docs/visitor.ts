// A real browser, in which the blocks of pages run that are for browsers.

import { EventEmitter } from 'node:events';
import { type Browser, type BrowserContext, chromium } from 'playwright-core';
import { FLAGS, findBrowser } from '../../scripts/browser.mjs';
import type { Block } from './page.js';
import { HASTE, patiently } from './patience.js';

// Pages name these: where the server is, and where a page of another origin comes from.
export const FAR = 'https://push.example';
export const ELSEWHERE = 'https://app.example';
/** What stands for that origin: without TLS, and answered before the network is asked. */
export const NEARBY = 'http://localhost';

const BLANK = '<!doctype html><html lang="en"><title>-</title><body></body></html>';
// Tells of each stream that opens, and of each that is given up. Timers are quick, as on the server.
const WATCH = `const { setTimeout, setInterval } = globalThis;
globalThis.setTimeout = (run, delay = 0, ...values) => setTimeout(run, delay / ${HASTE}, ...values);
globalThis.setInterval = (run, delay = 0, ...values) => setInterval(run, delay / ${HASTE}, ...values);
globalThis.EventSource = class extends EventSource {
  constructor(...args) {
    super(...args);
    console.debug('stream');
    this.addEventListener('open', () => console.debug('opened'));
    this.addEventListener('error', () => {
      if (this.readyState === EventSource.CLOSED) console.debug('refused');
    });
  }
};`;

/** What a block came to in a browser. */
export interface Visit {
  readonly output: string;
  /** What went wrong: an exception, an error on the console, a stream that did not open. */
  readonly faults: readonly string[];
}

export class Visitor {
  #launched: Promise<Browser> | undefined;
  #context: BrowserContext | undefined;

  /** Runs a block on a page of the server at this port, until it has printed what it should, and its streams are open. */
  async visit(block: Block, port: number, enough: (output: string) => boolean): Promise<Visit> {
    const { code, language, around } = block;
    const isFar = code.includes(FAR);
    const server = `http://127.0.0.1:${port}`;
    const origin = isFar ? NEARBY : server;
    const source = [...around.before, code, ...around.after]
      .join('\n')
      .replaceAll(FAR, server)
      .replaceAll('http://localhost:3000', server);

    const page = await (await this.#open()).newPage();
    const changed = new EventEmitter();
    let output = '';
    const faults: string[] = [];
    const streams = { made: 0, opened: 0, refused: 0 };
    page.on('pageerror', (error) => {
      faults.push(String(error));
      changed.emit('change');
    });
    page.on('console', (message) => {
      const text = message.text();
      // That a stream is refused is told here too; what counts is whether one was opened.
      if (/^(Failed to load resource|EventSource's response)/.test(text)) return;
      if (message.type() === 'error') faults.push(text);
      else if (message.type() !== 'debug') output += `${text}\n`;
      else if (text === 'stream') streams.made += 1;
      else if (text === 'opened') streams.opened += 1;
      else if (text === 'refused') streams.refused += 1;
      changed.emit('change');
    });
    await page.addInitScript(WATCH);
    await page.route(`${origin}/`, (route) =>
      route.fulfill({ contentType: 'text/html', body: language === 'html' ? source : BLANK }),
    );
    await page.goto(`${origin}/`, { waitUntil: 'domcontentloaded' });
    if (language !== 'html') await page.addScriptTag({ type: 'module', content: source });
    const needsStream = source.includes('EventSource(');
    await patiently(changed, 'change', () => {
      if (faults.length > 0) return true;
      return (
        enough(output) &&
        (!needsStream || streams.opened > 0) &&
        streams.opened + streams.refused >= streams.made
      );
    });
    if (needsStream && streams.opened === 0) faults.push('no stream was opened');
    await page.close();
    return { output, faults };
  }

  async close(): Promise<void> {
    await (await this.#launched)?.close();
  }

  async #open(): Promise<BrowserContext> {
    this.#launched ??= launch();
    this.#context ??= await (await this.#launched).newContext();
    return this.#context;
  }
}

async function launch(): Promise<Browser> {
  const { path, env } = findBrowser();
  // What is answered before the network is asked counts as of no network, from which this machine could not be reached.
  const args = [...FLAGS, '--disable-features=LocalNetworkAccessChecks'];
  return chromium.launch({ executablePath: path, env: env as Record<string, string>, args });
}
