// A site that fails as it is told, and a page of it on which a client of the documentation runs.

import { EventEmitter, once } from 'node:events';
import type { Socket } from 'node:net';
import express, { type Response } from 'express';
import type { Browser, Page } from 'playwright-core';
import type { Comet, CometOptions } from '../../lib/index.js';
import { told } from '../support/client.js';
import { hub, type TestServer, witness } from '../support/server.js';

/** A status, with a page and a `Retry-After` as a proxy has them; or a connection that is reset. */
export type Failure = number | 'reset';

// Timers are quick. Of each stream the page tells what came: a listener of the client's own has heard it as well, before
// anything else can happen.
const WATCH = `
  const { setTimeout } = globalThis;
  globalThis.timers = 0;
  globalThis.setTimeout = (run, delay = 0) => {
    timers += 1;
    return setTimeout(() => { timers -= 1; run(); }, delay / 50);
  };
  globalThis.EventSource = class extends EventSource {
    constructor(...args) {
      super(...args);
      for (const name of ['comet:open', 'comet:ready', 'comet:gap', 'message', 'alert']) {
        this.addEventListener(name, () => console.debug(name));
      }
    }
  };
  null`;

export class Site {
  /** What the page has printed. */
  readonly printed: string[] = [];
  /** The names of the events that its EventSources have heard. */
  readonly heard: string[] = [];
  /** What it has asked for: `GET /channels`. */
  readonly requests: string[] = [];
  /** What GET /stock is answered by. */
  stock: Record<string, number> = {};
  /** Requests for it that wait to be answered; without it, each is answered at once. */
  held: (() => void)[] | undefined;
  /** Exceptions of its scripts. */
  readonly #faults: string[] = [];
  readonly #failures = new Map<string, Failure[]>();
  readonly #tickets = new Set<string>();
  readonly #streams = new Set<Socket>();
  readonly #changed = new EventEmitter();

  private constructor(
    readonly push: Comet,
    readonly server: TestServer,
    readonly page: Page,
  ) {
    page.on('pageerror', (error) => this.#note(this.#faults, String(error)));
    page.on('console', (message) => {
      const text = message.text();
      if (message.type() === 'log') this.#note(this.printed, text);
      if (message.type() === 'debug') this.#note(this.heard, text);
    });
    page.on('framenavigated', () => this.#note(this.requests, 'navigation'));
    witness('page', () => ({ printed: this.printed, heard: this.heard, requests: this.requests }));
  }

  /** Opens it. Its channels are at `/channels`, behind a ticket where `hasTickets`; its state is at `/stock`. */
  static async open(browser: Browser, options: CometOptions = {}, hasTickets = false): Promise<Site> {
    let site: Site | undefined;
    const authorize: CometOptions['authorize'] = ({ url = '' }) =>
      !hasTickets || site!.#tickets.delete(new URL(url, 'http://-').searchParams.get('ticket') ?? '');
    const made = await hub({ retry: [1, 1], authorize, ...options }, (push) =>
      express()
        .get('/', (_request, response) => void response.send('<!doctype html><title>-</title><body></body>'))
        .get('/favicon.ico', (_request, response) => void response.end())
        .use((request, response, next) =>
          site!.#fails(request.method, request.path, response) ? null : next(),
        )
        .get('/stock', (_request, response) => site!.#tell(response))
        .post('/tickets', (_request, response) => void response.json({ ticket: site!.#ticket() }))
        .use('/channels', ({ socket }, _response, next) => {
          site!.#streams.add(socket);
          next();
        })
        .use('/channels', push),
    );
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.addInitScript(WATCH);
    site = new Site(made.push, made.server, page);
    await page.goto(made.server.url);
    site.requests.length = 0;
    return site;
  }

  async run(code: string): Promise<void> {
    await this.page.addScriptTag({ type: 'module', content: code });
  }

  /** Has the next requests below these paths fail, one after the other. */
  fail(...failing: Record<string, Failure[]>[]): void {
    for (const [path, failures] of failing.flatMap((each) => Object.entries(each))) {
      this.#failures.set(path, [...(this.#failures.get(path) ?? []), ...failures]);
    }
  }

  /** Resets the connections of streams. Resolves when its hub knows, before the page can be back. */
  async cut(): Promise<void> {
    const left = told((on) => this.push.on('leave', on));
    for (const socket of this.#streams) socket.resetAndDestroy();
    this.#streams.clear();
    await left;
  }

  async joined(): Promise<void> {
    while (this.push.inspect().listeners === 0) await told((on) => this.push.on('join', on));
  }

  /** Waits until the page has printed so many lines; returns them. */
  async prints(count: number): Promise<string[]> {
    await this.until(() => this.printed.length >= count);
    return this.printed;
  }

  /** Waits until it holds. Rejects where something goes wrong on the page. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds() && this.#faults.length === 0) await once(this.#changed, 'change');
    if (this.#faults.length > 0) throw new Error(this.#faults.join());
  }

  /** How many timers run on the page, once it has heard all answers. */
  async timers(): Promise<unknown> {
    return this.page.evaluate('fetch("/favicon.ico").then(() => timers)');
  }

  #fails(method: string, path: string, response: Response): boolean {
    this.#note(this.requests, `${method} ${path}`);
    const [failing] = Array.from(this.#failures.keys()).filter((each) => path.startsWith(each));
    const failure = this.#failures.get(failing ?? '')?.shift();
    if (failure === 'reset') response.socket?.resetAndDestroy();
    else if (failure !== undefined) {
      response.status(failure).set('Retry-After', '1').send('<!doctype html><title>Bad Gateway</title>');
    }
    return failure !== undefined;
  }

  #tell(response: Response): void {
    const state = { ...this.stock };
    const answer = () => void response.json(state);
    if (this.held === undefined) answer();
    else this.held.push(answer);
    this.#changed.emit('change');
  }

  #ticket(): string {
    const ticket = crypto.randomUUID();
    this.#tickets.add(ticket);
    return ticket;
  }

  #note(list: string[], text: string): void {
    list.push(text);
    this.#changed.emit('change');
  }
}
