// An nginx for one test, that has the very configuration of docs/proxies.md.

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type ClientHttp2Session, connect } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import express, { type Express } from 'express';
import type { Channel, Comet, CometOptions } from '../../lib/index.js';
import { findNginx } from '../../scripts/nginx.mjs';
import { EventClient } from './client.js';
import { somePort } from './redis.js';
import { cleanup, hub, type TestServer } from './server.js';

const DOCUMENT = fileURLToPath(new URL('../../docs/proxies.md', import.meta.url));
const CERTIFICATE = fileURLToPath(new URL('certificate.pem', import.meta.url));
const ca = readFileSync(CERTIFICATE, 'utf8');

/** Changes the site of the document. */
export type Change = (site: string) => string;

/** Puts `to` where the document says `from`, once: else a test would try what nobody has read. */
export function instead(text: string, from: string, to: string): string {
  const parts = text.split(from);
  if (parts.length !== 2) throw new Error(`docs/proxies.md says ${parts.length - 1} times: ${from}`);
  return parts.join(to);
}

/** A real nginx before a server of this machine, killed after the test. */
export class Nginx {
  readonly #folder = mkdtempSync(join(tmpdir(), 'express-comet-nginx-'));
  #child: ChildProcessByStdio<null, null, Readable> | undefined;
  /** What it has said since it was started. */
  log = '';

  private constructor(readonly port: number) {}

  /**
   * Resolves when it takes connections.
   * @param server the port of the server that it stands before
   * @param change what is to be other than in the document
   */
  static async before(server: number, change: Change = (site) => site): Promise<Nginx> {
    const nginx = new Nginx(somePort());
    cleanup(() => nginx.kill());
    nginx.#configure(server, change);
    nginx.#run();
    if (await nginx.#says('start worker process ', 'Address already in use')) return nginx;
    await nginx.kill();
    return Nginx.before(server, change);
  }

  get url(): string {
    return `https://127.0.0.1:${this.port}`;
  }

  /** Opens a stream over HTTP/1.1, from this address of the machine. */
  listen(
    path: string,
    headers: Record<string, string> = {},
    localAddress = '127.0.0.1',
  ): Promise<EventClient> {
    return EventClient.open(this.url + path, headers, { ca, localAddress });
  }

  /** A connection of HTTP/2. */
  async session(): Promise<ClientHttp2Session> {
    const session = connect(this.url, { ca });
    // Those that use it hear of it.
    session.on('error', () => {});
    cleanup(() => session.destroy());
    await once(session, 'connect');
    return session;
  }

  /** Reads its configuration again, as after an edit; resolves when new workers are there. */
  async reload(): Promise<void> {
    this.log = '';
    this.#child?.kill('SIGHUP');
    await this.#says('start worker process ');
    // Until then an old worker may take a connection, whose streams it refuses.
    await this.#says('gracefully shutting down');
  }

  /** As if the power had failed. */
  async kill(): Promise<void> {
    const stderr = this.#child?.stderr;
    // Its workers hold that pipe as well.
    const closed = stderr === undefined || stderr.closed ? undefined : once(stderr, 'close');
    this.#end();
    await closed;
  }

  #configure(server: number, change: Change): void {
    const [main = '', site = '', ...others] = blocks();
    if (site === '' || others.length > 0) throw new Error('docs/proxies.md has not two blocks of nginx.');
    let own = change(site);
    for (const [from, to] of [
      ['listen 443', `listen 127.0.0.1:${this.port}`],
      ['127.0.0.1:3000', `127.0.0.1:${server}`],
      ['/etc/ssl/certs/push.example.pem', CERTIFICATE],
      ['/etc/ssl/private/push.example.key', CERTIFICATE],
    ] as const) {
      own = instead(own, from, to);
    }
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
    const configuration = [
      'daemon off;',
      'pid nginx.pid;',
      'error_log stderr notice;',
      // Only root may say who the workers are, and they are to find this folder.
      ...(process.getuid?.() === 0 ? ['user root;'] : []),
      main,
      'http {',
      'access_log off;',
      ...temporary.map((name) => `${name}_temp_path ${name};`),
      own,
      '}',
    ];
    writeFileSync(join(this.#folder, 'nginx.conf'), configuration.join('\n'));
  }

  #run(): void {
    const { path, env } = findNginx();
    const child = spawn(path, ['-p', this.#folder, '-e', 'stderr', '-c', 'nginx.conf'], {
      env,
      stdio: ['ignore', 'ignore', 'pipe'],
      // A group of its own: no worker stays behind.
      detached: true,
    });
    this.#child = child;
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.log += text;
    });
    // Where the tests are aborted, there is no cleanup.
    process.on('exit', this.#end);
    child.stderr.once('close', () => process.off('exit', this.#end));
  }

  /** Resolves with whether its log has these words, or the others instead; rejects where it exits without. */
  #says(words: string, others?: string): Promise<boolean> {
    const { stderr } = this.#child!;
    return new Promise((resolve, reject) => {
      const look = () => {
        if (this.log.includes(words)) resolve(true);
        else if (others !== undefined && this.log.includes(others)) resolve(false);
      };
      stderr.on('data', look);
      stderr.once('close', () => reject(new Error(`nginx has exited\n${this.log}`)));
      look();
    });
  }

  readonly #end = (): void => {
    try {
      if (this.#child?.pid !== undefined) process.kill(-this.#child.pid, 'SIGKILL');
    } catch {
      // It has exited by itself.
    }
    rmSync(this.#folder, { recursive: true, force: true });
  };
}

/** A hub at `/channels` of an app, behind nginx, with the channel `news`. */
export async function proxied(
  options: CometOptions = {},
  { change, app = express }: { change?: Change; app?: () => Express } = {},
): Promise<{ push: Comet; news: Channel; server: TestServer; nginx: Nginx }> {
  const { push, server, port } = await hub(options, (push) => app().use('/channels', push));
  const nginx = await Nginx.before(port, change);
  return { push, news: push.channels.create({ name: 'news' }), server, nginx };
}

type Listen = (nginx: Nginx, path?: string, headers?: Record<string, string>) => Promise<EventClient>;

/** How a client may speak to nginx; each opens a stream on a connection of its own. */
export const protocols: readonly (readonly [name: string, listen: Listen])[] = [
  ['HTTP/1.1', (nginx, path = '/channels/news', headers = {}) => nginx.listen(path, headers)],
  [
    'HTTP/2',
    async (nginx, path = '/channels/news', headers = {}) =>
      EventClient.openOn(await nginx.session(), path, headers),
  ],
];

function blocks(): string[] {
  const document = readFileSync(DOCUMENT, 'utf8');
  return Array.from(document.matchAll(/^```nginx\n(.*?)^```$/gms), ([, block = '']) => block);
}
