import { existsSync, readdirSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect } from 'chai';
import { createClient } from 'redis';
import { redis as redisBackplane } from '../lib/engines/redis/redis.js';
import { CometError, comet } from '../lib/index.js';
import { type Block, type Page, ROOT, readPage } from './docs/page.js';
import { Expected } from './docs/print.js';
import { check, commandsOf, curl, expanded, parseCurl, secretOf, variablesOf } from './docs/shell.js';
import { ELSEWHERE, NEARBY, Visitor } from './docs/visitor.js';
import { type Running, Workshop } from './docs/workshop.js';
import { healthy, listen } from './support/nodes.js';
import { RedisServer } from './support/redis.js';
import { hub } from './support/server.js';

const pages = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md', ...markdownIn('docs')].map(
  readPage,
);
const CODE = ['ts', 'js', 'html', 'sh', 'json'];
// The output of the block before; what has a test of its own; what is no code.
const OTHERS = ['text', 'nginx', 'yaml', 'mermaid', ''];

function markdownIn(folder: string): string[] {
  return readdirSync(join(ROOT, folder))
    .filter((file) => file.endsWith('.md'))
    .map((file) => `${folder}/${file}`);
}

function isForBrowser({ language, code, around }: Block): boolean {
  if (language === 'html') return true;
  const source = [...around.before, code].join('\n');
  return language === 'js' && /\b(EventSource|document)\b/.test(source) && !/^import /m.test(source);
}

const isForServer = (block: Block) => /^[tj]s$/.test(block.language) && !isForBrowser(block);

/** A page as it is read: from the top, and what a block has started is there for those below it. */
class Reading {
  readonly #page: Page;
  readonly #done = new Map<Block, Promise<void>>();
  // The epochs that the page shows, and what they have been.
  readonly #epochs = new Map<string, string>();
  #ports: Readonly<Record<string, number>> = {};

  constructor(
    page: Page,
    readonly workshop: Workshop,
    readonly visitor: Visitor,
  ) {
    this.#page = page;
  }

  /** Runs a block, after all that stand above it. Rejects where it is not as the page says. */
  read(block: Block): Promise<void> {
    const known = this.#done.get(block);
    if (known !== undefined) return known;
    const { blocks } = this.#page;
    const above = blocks[blocks.indexOf(block) - 1];
    // What is wrong above is told there.
    const before = above === undefined ? this.#begin() : this.read(above).catch(() => {});
    const done = before.then(() => this.#run(block));
    this.#done.set(block, done);
    return done;
  }

  async #begin(): Promise<void> {
    this.workshop.sandbox().begin();
  }

  async #run(block: Block): Promise<void> {
    const sandbox = this.workshop.sandbox();
    const earlier = sandbox.faults.length;
    if (block.language === 'json') JSON.parse(block.code);
    else if (block.language === 'sh') await this.#command(block);
    else if (isForBrowser(block)) await this.#visit(block);
    else if (isForServer(block)) await this.#serve(block);
    await sandbox.settle();
    expect(sandbox.faults.slice(earlier), 'what goes wrong behind it').to.deep.equal([]);
  }

  async #serve(block: Block): Promise<void> {
    const isOnRedis = [...block.around.before, block.code].some((line) => line.includes(':6379'));
    const redis = isOnRedis ? { ':6379': `:${(await RedisServer.start()).port}` } : {};
    const running = await this.workshop.run(block, { [ELSEWHERE]: NEARBY, ...redis });
    this.#ports = running.ports;
    // Another server is another life.
    this.#epochs.clear();
    await this.#hasPrinted(block, running);
  }

  async #visit(block: Block): Promise<void> {
    const port = this.#ports[3000];
    expect(port, 'nothing above on this page listens on 3000').not.to.equal(undefined);
    const expected = this.#expected(block);
    const visit = await this.visitor.visit(block, port!, (output) => expected?.isIn(output) ?? true);
    expect(visit.faults).to.deep.equal([]);
    if (expected !== undefined && !expected.is(visit.output)) differs(block, visit.output);
  }

  async #command(block: Block): Promise<void> {
    const expected = this.#expected(block);
    let output = '';
    for (const words of commandsOf(block.code)) {
      if (words[0] === 'curl') {
        const asked = parseCurl(words.map((word) => this.#meant(expanded(word))));
        const status = await curl(asked, this.#ports, (piece) => {
          output += piece;
          return expected?.isIn(output) ?? true;
        });
        if (expected === undefined) expect(status, words.join(' ')).to.be.below(400);
      } else check(words, (file) => this.#tells(file));
    }
    if (expected !== undefined && !expected.isIn(output)) differs(block, output);
  }

  async #hasPrinted(block: Block, running: Running): Promise<void> {
    const expected = this.#expected(block);
    if (expected === undefined) return;
    const output = () => running.printed.join('\n');
    await running.until(() => expected.isIn(output()));
    if (!expected.is(output())) differs(block, output());
  }

  #expected({ prints }: Block): Expected | undefined {
    return prints === undefined ? undefined : new Expected(prints, this.#epochs);
  }

  /** With the epochs that the page shows as they really are. */
  #meant(word: string): string {
    return word.replace(/\b[0-9a-f]{12}(?=-\d)/g, (epoch) => this.#epochs.get(epoch) ?? epoch);
  }

  /** Whether the page says how a file is made. */
  #tells(file: string): boolean {
    return this.#page.text.includes(`\`${file}\``);
  }
}

function differs(block: Block, output: string): never {
  expect(output, 'what it prints').to.equal(block.prints);
  throw new Error('what it prints differs');
}

describe('The documentation', () => {
  const all = pages.flatMap(({ blocks }) => blocks);
  const runnable = all.filter(({ language }) => CODE.includes(language));
  const variables = runnable.flatMap(({ language, code }) => (language === 'sh' ? variablesOf(code) : []));
  const readings = new Map<Page, Reading>();
  let workshop: Workshop;
  let visitor: Visitor;

  before(() => {
    const modules = runnable.filter(({ language }) => /^[tj]s$/.test(language));
    workshop = new Workshop(modules, Object.fromEntries(variables.map((name) => [name, secretOf(name)])));
    visitor = new Visitor();
    for (const page of pages) readings.set(page, new Reading(page, workshop, visitor));
  });

  after(async () => {
    await visitor.close();
    await workshop.close();
  });

  for (const page of pages) {
    for (const block of page.blocks.filter((each) => runnable.includes(each))) {
      it(`${block.page}:${block.line} is true`, async () => {
        if (/^[tj]s$/.test(block.language)) expect(await workshop.complaints(block)).to.deep.equal([]);
        await readings.get(page)!.read(block);
      });
    }
  }

  it('has no block in a language of which nobody knows whether it is true', () => {
    for (const { page, line, language } of all) {
      expect([...CODE, ...OTHERS], `${page}:${line}`).to.include(language);
    }
  });

  it('links to what is there, and names files that are', () => {
    const linking = [...pages, ...markdownIn('bench').map(readPage)];
    const anchorsOf = (name: string) =>
      linking.find((each) => each.name === name)?.anchors ?? readPage(name).anchors;
    for (const { name, text, links } of linking) {
      for (const [, path = ''] of text.matchAll(/`((?:bench|demo|docs|lib|scripts|spec)\/[\w./-]*)`/g)) {
        expect(existsSync(join(ROOT, path)), `${name}: there is no ${path}`).to.equal(true);
      }
      for (const { to, line } of links.filter((each) => !/^[a-z]+:/.test(each.to))) {
        const [path = '', anchor] = to.split('#');
        const target = path === '' ? name : normalize(join(dirname(name), path));
        expect(existsSync(join(ROOT, target)), `${name}:${line}: there is no ${target}`).to.equal(true);
        if (anchor === undefined) continue;
        expect(anchorsOf(target).has(anchor), `${name}:${line}: ${target} has no #${anchor}`).to.equal(true);
      }
    }
  });
});

/** Fails where a part of a page has not all the names that the message of an error lists. */
function expectToTell(part: string, list: () => unknown): void {
  expect(list)
    .to.throw(CometError)
    .with.property('message')
    .that.satisfies((message: string) => {
      const names = message.replace(/^.* are /, '').match(/\w+/g) ?? [];
      expect(names).to.have.length.above(10);
      for (const name of names) expect(part, name).to.match(new RegExp(`\`${name}[\`(]`));
      return true;
    });
}

describe('What the documentation lists', () => {
  const guide = readPage('docs/guide.md').text;
  const readme = readPage('README.md').text;

  it('are all options', () => {
    const table = guide.slice(guide.indexOf('## All options'));
    expectToTell(table, () => comet({ nonsense: true } as object));
  });

  it('are all events of a hub', () => {
    const paragraph = /^`on\(\)` tells of .*?\n\n/ms.exec(readme)?.[0] ?? '';
    expectToTell(paragraph, () => comet().on('nonsense' as 'join', () => {}));
  });

  for (const database of [0, 1])
    it(`are all that a user of Redis must be allowed on database ${database}`, async () => {
      const acl = readPage('docs/cluster.md').blocks.find(({ code }) => code.startsWith('ACL SETUSER'))!;
      const redis = await RedisServer.start();
      await redis.command(...acl.code.trim().split(/\s+/));
      const url = redis.url.replace('//', '//comet:secret@');
      const make = () => hub({ backplane: redisBackplane({ client: createClient({ url, database }) }) });
      const [one, other] = [await make(), await make()];
      await Promise.all([one, other].map(({ push }) => healthy(push)));

      const news = one.push.channels.open('news', { log: { frames: 1 } });
      const client = await listen(other.server.url, 'news');
      for (const data of ['a', 'b', 'c']) expect((await news.send(data)).delivered, data).to.equal(1);
      expect((await news.countListeners()).listeners).to.equal(1);
      await redis.cutConnections();
      expect((await news.send('d')).delivered).to.equal(1);
      news.end();
      await client.ended();
      expect(client.messages).to.deep.equal(['a', 'b', 'c', 'd']);
      await other.push.close();
      expect((await one.push.health()).reason).to.equal(null);
    });
});
