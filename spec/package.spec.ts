import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { EventSource } from 'eventsource';
import { type Manifest, Project } from './support/project.js';
import { cleanup } from './support/server.js';
import { Text } from './support/text.js';

const KINDS = ['module', 'commonjs'] as const;

const BIN = fileURLToPath(new URL('../node_modules/', import.meta.url));

// TypeScript 7 has no `node10`, which `commonjs` implied before; attw checks that one.
const COMPILERS = {
  commonjs: { module: 'commonjs' },
  node16: { module: 'node16' },
  bundler: { module: 'esnext', moduleResolution: 'bundler' },
};

// Two declarations of a class with private members are not compatible with each other.
const ONE_TYPE = `
import type { Channels as Imported } from 'express-comet';
import type { Channels as Required } from 'express-comet' with { 'resolution-mode': 'require' };
export const channels = (given: Imported): Required => given;
`;

const ONE_INSTANCE = `
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
const require = createRequire(import.meta.url);
const names = {};
for (const entry of process.argv.slice(2)) {
  const [imported, required] = [await import(entry), require(entry)];
  names[entry] = Object.keys(imported);
  assert.deepEqual(names[entry], Object.keys(required).sort());
  for (const name of names[entry]) assert.equal(imported[name], required[name], name);
}
console.log(JSON.stringify(names));
`;

// The test that an application has: an event of a stream, and an error that it knows by its class.
const APPLICATION = `
test('an application', async () => {
  const hub = comet();
  const news = hub.channels.create({ name: 'news' });
  const server = createServer(hub);
  await new Promise((resolve) => server.listen(0, resolve));
  const { body } = await fetch(\`http://127.0.0.1:\${server.address().port}/news\`);
  const sent = news.send('hello');
  const text = body.pipeThrough(new TextDecoderStream());
  let heard = '';
  for await (const chunk of text) if ((heard += chunk).includes('data: hello')) break;
  assert.equal((await sent).status, 'success');
  await hub.close();
  server.close();
  assert.throws(() => hub.channels.create({ name: 'late' }), CometError);
});
`;

const LOADS = {
  mjs: `
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { comet, CometError } from 'express-comet';
`,
  cjs: `
const assert = require('node:assert/strict');
const { createServer } = require('node:http');
const { comet, CometError } = require('express-comet');
`,
};

const JEST = [`${BIN}jest/bin/jest.js`, '--runInBand', '--cacheDirectory=.jest'];
const RUNNERS = {
  'Jest, by require': [...JEST, 'app.test.cjs'],
  'Jest, as an ES module': ['--experimental-vm-modules', ...JEST, 'app.test.mjs'],
  Vitest: [`${BIN}vitest/vitest.mjs`, 'run', 'app.test.mjs'],
  'node --test': ['--require=./globals.cjs', '--test', 'app.test.cjs', 'app.test.mjs'],
};

// Vitest transforms a package that is linked, as it does one that is inlined.
const VITEST = `
export default {
  test: {
    globals: true,
    projects: [
      { extends: true, test: { name: 'as it is' } },
      { extends: true, test: { name: 'inlined', server: { deps: { inline: ['express-comet'] } } } },
    ],
  },
};
`;

// The README's server listens on port 3000, which may be anybody's here: it gets a free one, and says which.
const LISTEN = `
  const { Server } = require('node:net');
  const { listen } = Server.prototype;
  Server.prototype.listen = function (port, ...rest) {
    this.on('listening', () => process.send({ asked: port, given: this.address().port }));
    return listen.call(this, 0, ...rest);
  };
  process.on('disconnect', () => process.exit());
`;

/** The first server in the README, and the script of the first page. */
function firstExample(readme: string): { server: string; script: string } {
  const blocks = Array.from(readme.matchAll(/^```\w+\n(.*?)^```$/gms), ([, code = '']) => code);
  const server = blocks.find((code) => code.includes('.listen(3000)'));
  const page = blocks.find((code) => code.includes('new EventSource('));
  if (server === undefined || page === undefined) throw new Error('The README has no server, or no page.');
  return { server, script: /<script>(.*)<\/script>/s.exec(page)?.[1] ?? page };
}

describe('The package, installed as it would be published, from the build in dist/', function () {
  this.timeout(60_000);

  let project: Project;
  let manifest: Manifest;
  // As an application imports them.
  let entries: string[];
  let example: ReturnType<typeof firstExample>;

  before(async () => {
    project = await Project.make(['@types/express', '@types/node', 'express', 'prom-client', 'typescript']);
    manifest = JSON.parse(await project.read('node_modules/express-comet/package.json'));
    entries = Object.keys(manifest.exports)
      .filter((path) => path !== './package.json')
      .map((path) => `express-comet${path.slice(1)}`);
    example = firstExample(await project.read('node_modules/express-comet/README.md'));
    const imports = entries.map((entry, n) => `export * as entry${n} from '${entry}';\n`).join('');
    for (const kind of KINDS) {
      await project.write(`${kind}/package.json`, JSON.stringify({ type: kind }));
      await project.write(`${kind}/server.ts`, example.server);
      await project.write(`${kind}/entries.ts`, imports);
    }
    await project.write('server.mjs', example.server);
    await project.write('listen.cjs', LISTEN);
    await project.write('one-type.mts', ONE_TYPE);
    await project.write('one-instance.mjs', ONE_INSTANCE);
    await project.write('globals.cjs', "globalThis.test = require('node:test');");
    await project.write('vitest.config.mjs', VITEST);
    for (const [extension, load] of Object.entries(LOADS)) {
      await project.write(`app.test.${extension}`, load + APPLICATION);
    }
    await project.write(
      'tsconfig.json',
      JSON.stringify({
        compilerOptions: {
          ...{ module: 'nodenext', target: 'es2023', types: ['node'], strict: true, skipLibCheck: false },
          // What a declaration file may trip over besides.
          ...{ exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true },
        },
        include: [...KINDS, 'one-type.mts'],
      }),
    );
    for (const [name, compilerOptions] of Object.entries(COMPILERS)) {
      await project.write(
        `tsconfig.${name}.json`,
        JSON.stringify({
          extends: './tsconfig.json',
          // The test with nodenext checks the declarations.
          compilerOptions: { ...compilerOptions, skipLibCheck: true },
          include: KINDS,
        }),
      );
    }
  });

  after(() => project?.remove());

  it('brings uuid, and nothing else', () => {
    expect(Object.keys(manifest.dependencies ?? {})).to.deep.equal(['uuid']);
    expect(manifest).to.not.have.any.keys(
      'optionalDependencies',
      'bundleDependencies',
      'bundledDependencies',
    );
    const peers = Object.keys(manifest.peerDependencies ?? {});
    const needed = peers.filter((name) => manifest.peerDependenciesMeta?.[name]?.optional !== true);
    expect(needed).to.deep.equal([]);
  });

  it('compiles, with the declarations of every entry, as ESM and as CommonJS', async () => {
    const { code, stdout } = await project.node('node_modules/typescript/bin/tsc');
    expect(stdout).to.equal('');
    expect(code).to.equal(0);
    expect(await project.read('module/server.js')).to.match(/^import express from 'express';$/m);
    expect(await project.read('commonjs/server.js')).to.match(/require\(.express-comet.\)/);
  });

  for (const name of Object.keys(COMPILERS)) {
    it(`compiles with module resolution of ${name}`, async () => {
      const tsc = ['node_modules/typescript/bin/tsc', '--noEmit', '-p', `tsconfig.${name}.json`];
      const { code, stdout } = await project.node(...tsc);
      expect(stdout).to.equal('');
      expect(code).to.equal(0);
    });
  }

  it('gives import and require the same names, classes and functions', async () => {
    const { stdout, stderr } = await project.node('one-instance.mjs', ...entries);
    expect(stderr).to.equal('');
    expect(JSON.parse(stdout)['express-comet']).to.include.members(['comet', 'Deferred', 'CometError']);
  });

  for (const [name, args] of Object.entries(RUNNERS)) {
    it(`runs in a test of ${name}`, async () => {
      const { code, stdout, stderr } = await project.node(...args);
      expect(code, stdout + stderr).to.equal(0);
    });
  }

  for (const file of ['server.mjs', 'module/server.js', 'commonjs/server.js']) {
    it(`does what the README says first, word for word, in ${file}`, async () => {
      const child = spawn(process.execPath, ['--require', './listen.cjs', file], {
        cwd: project.folder,
        stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      });
      const gone = once(child, 'close');
      cleanup(async () => {
        child.kill('SIGKILL');
        await gone;
      });
      const output = new Text(child.stdout!);
      const errors = new Text(child.stderr!);
      const [told] = await Promise.race([once(child, 'message'), gone]);
      expect(told, errors.text).to.include({ asked: 3000 });

      const heard = await new Promise<string>((resolve, reject) => {
        // The page's script, which knows these as globals, and its server by where it came from.
        class Source extends EventSource {
          constructor(path: string) {
            super(new URL(path, `http://127.0.0.1:${told.given}`));
            cleanup(() => this.close());
            this.addEventListener('error', ({ message }) => reject(new Error(message)));
          }
        }
        const page = new Function('EventSource', 'console', 'document', example.script);
        page(Source, { log: resolve }, { body: { append: resolve } });
      });
      expect(new Date(JSON.parse(heard).at).getTime()).to.be.closeTo(Date.now(), 60_000);
      expect(await output.until('success: 1 of 1\n')).to.equal(true);
      expect(output.text).to.match(/^(success: [01] of [01]\n)+$/);
      expect(errors.text).to.equal('');
    });
  }
});
