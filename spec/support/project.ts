import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execute, type Run } from './process.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const NAME = 'express-comet';

/** What is used of a package.json, and of an entry of a lock file. */
export interface Manifest {
  readonly version: string;
  readonly exports: Readonly<Record<string, string | object>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>;
}

type Locked = Readonly<Record<string, Manifest>>;

/** A project of somebody's, in a folder of its own, into which the package was installed as it would be published. */
export class Project {
  private constructor(readonly folder: string) {}

  /** Packs the build that stands in dist/, and installs it beside others: packages that this one has been tested with. */
  static async make(others: readonly string[]): Promise<Project> {
    const project = new Project(await mkdtemp(join(tmpdir(), 'express-comet-')));
    try {
      await project.#install(others);
    } catch (error) {
      await project.remove();
      throw error;
    }
    return project;
  }

  async remove(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }

  async read(path: string): Promise<string> {
    return readFile(join(this.folder, path), 'utf8');
  }

  async write(path: string, text: string): Promise<void> {
    const file = join(this.folder, path);
    await mkdir(join(file, '..'), { recursive: true });
    await writeFile(file, text);
  }

  /** Runs Node in it. */
  async node(...args: string[]): Promise<Run> {
    return execute(process.execPath, args, { cwd: this.folder });
  }

  async #install(others: readonly string[]): Promise<void> {
    const own: Manifest = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'));
    const lock = JSON.parse(await readFile(join(ROOT, 'package-lock.json'), 'utf8'));
    const { packages } = lock as { packages: Locked };
    await this.#npm(ROOT, 'pack', '--ignore-scripts', '--pack-destination', this.folder);
    const tarball = `file:${NAME}-${own.version}.tgz`;
    const { version, dependencies: needs = {}, peerDependencies, peerDependenciesMeta } = own;
    const dependencies = {
      [NAME]: tarball,
      ...Object.fromEntries(others.map((name) => [name, packages[`node_modules/${name}`]?.version])),
    };
    await this.write('package.json', JSON.stringify({ private: true, dependencies }));
    // A lock file of what `npm ci` has fetched already. Without one npm asks a registry about 70 packages, takes twice as
    // long, and installs whatever came out today.
    const locked = {
      '': { dependencies },
      ...closure(packages, [...others, ...Object.keys(needs)]),
      [`node_modules/${NAME}`]: {
        ...{ version, resolved: tarball, dependencies: needs, peerDependencies, peerDependenciesMeta },
      },
    };
    await this.write('package-lock.json', JSON.stringify({ lockfileVersion: 3, packages: locked }));
    await this.#npm(this.folder, 'ci', '--prefer-offline', '--ignore-scripts', '--no-audit', '--no-fund');
  }

  async #npm(cwd: string, ...args: string[]): Promise<void> {
    // The npm that runs the tests, which need not be the first on the PATH.
    const npm = process.env.npm_execpath;
    const [program, ...prefix] = npm ? [process.execPath, npm] : ['npm'];
    const { code, stderr } = await execute(program as string, [...prefix, ...args], { cwd });
    if (code !== 0) throw new Error(`npm ${args[0]} failed: ${stderr}`);
  }
}

/** What a lock file has of these packages, and of all that they need. */
function closure(packages: Locked, names: readonly string[]): Locked {
  const found: Record<string, Manifest> = {};
  const queue = names.map((name) => `node_modules/${name}`);
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    const entry = packages[path];
    if (entry === undefined || path in found) continue;
    found[path] = entry;
    for (const name of Object.keys({ ...entry.dependencies, ...entry.optionalDependencies })) {
      queue.push(placeOf(packages, path, name));
    }
  }
  return found;
}

/** Where a package finds another: in itself, or in what it lies in. */
function placeOf(packages: Locked, from: string, name: string): string {
  for (
    let folder = from;
    folder !== '';
    folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')))
  ) {
    const place = `${folder}/node_modules/${name}`;
    if (place in packages) return place;
  }
  return `node_modules/${name}`;
}
