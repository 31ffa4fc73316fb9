// The docstrings of lib/ → docs/reference, one page for each entry of package.json's `exports`. With `--check` nothing is
// written: it is said what of docs/reference would change. A public name without a docstring is an error either way.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { installTools } from './install.mjs';

process.chdir(join(import.meta.dirname, '..', '..'));

installTools();
const { Application, CommentTag, Converter, ReflectionKind } = await import('typedoc');

const REFERENCE = 'docs/reference';
const isCheck = process.argv.includes('--check');
const out = isCheck ? mkdtempSync(join(tmpdir(), 'express-comet-')) : REFERENCE;
if (isCheck) process.on('exit', () => rmSync(out, { recursive: true, force: true }));

const { name, exports } = JSON.parse(readFileSync('package.json', 'utf8'));
// './redis' → its name for who imports it, and its place in lib/ without `.ts`
const entries = Object.entries(exports)
  .filter(([, target]) => typeof target === 'object')
  .map(([path, target]) => [
    name + path.slice(1),
    /^\.\/dist\/esm\/(.+)\.js$/.exec(target.import.default)[1],
  ]);

const app = await Application.bootstrapWithPlugins({
  name,
  readme: join(import.meta.dirname, 'intro.md'),
  tsconfig: 'tsconfig.build.json',
  entryPoints: entries.map(([, place]) => `lib/${place}.ts`),
  // `npm run typecheck` has done it.
  skipErrorChecking: true,
  excludeInternal: true,
  excludePrivate: true,
  // Not what every Error has.
  excludeExternals: true,
  // A line that moves changes no page.
  disableSources: true,
  disableGit: true,
  sort: ['source-order'],
  groupOrder: [
    ...['Functions', 'Interfaces', 'Classes', 'Type Aliases'],
    ...['Constructors', 'Properties', 'Accessors', 'Methods'],
  ],
  validation: { notDocumented: true, notExported: true, invalidLink: true, invalidPath: true },
  treatWarningsAsErrors: true,
  logLevel: 'Warn',
  plugin: ['typedoc-plugin-markdown'],
  outputs: [{ name: 'markdown', path: out }],
  router: 'module',
  mergeReadme: true,
  hidePageHeader: true,
  hideBreadcrumbs: true,
  expandObjects: true,
  expandParameters: true,
  typeDeclarationVisibility: 'compact',
  indexFormat: 'table',
  parametersFormat: 'table',
  interfacePropertiesFormat: 'table',
  classPropertiesFormat: 'table',
  typeAliasPropertiesFormat: 'table',
  typeDeclarationFormat: 'table',
  tableColumnSettings: { hideDefaults: true, hideInherited: true, hideModifiers: true, hideOverrides: true },
});

app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
  // What a class inherits stands with the one that it extends, and a constructor without a docstring is not for users.
  for (const { children = [] } of project.getReflectionsByKind(ReflectionKind.Class)) {
    for (const member of [...children]) {
      const isOurs =
        member.kindOf(ReflectionKind.Constructor) && !member.signatures.some((each) => each.hasComment());
      if (member.flags.isInherited || isOurs) project.removeReflection(member);
    }
  }
});

const project = await app.convert();
if (project === undefined) process.exit(1);

const modules = entries.map(([title, place]) => {
  const module = project.children.find((child) => child.name === place);
  if (module === undefined) throw new Error(`lib/${place}.ts of ${title} is not in the reference.`);
  module.name = title;
  return module;
});
// In the order of `exports`: what everybody needs is first.
project.children.sort((one, other) => modules.indexOf(one) - modules.indexOf(other));
for (const { children } of project.groups) {
  children.sort((one, other) => modules.indexOf(one) - modules.indexOf(other));
}

const errors = modules
  .flatMap(({ children }) => children)
  .filter((child) => child.kindOf(ReflectionKind.Class) && child.name.endsWith('Error'));
for (const { comment } of Object.values(project.reflections)) {
  if (comment === undefined) continue;
  gatherThrows(comment);
  comment.summary = linked(comment.summary);
  for (const tag of comment.blockTags) tag.content = linked(tag.content);
}

// What is in an object that a comment stands above is told of by that comment. (Of parameters nothing is demanded.)
const told = project
  .getReflectionsByKind(ReflectionKind.Property)
  .filter((property) => !property.hasComment() && ownerOf(property)?.hasComment());
app.options.setValue(
  'intentionallyNotDocumented',
  told.map((property) => property.getFriendlyFullName()),
);

app.validate(project);
stopAtWarnings();
await app.generateOutputs(project);
stopAtWarnings();
if (isCheck) compare();

/** Makes one list of the errors that a docstring names one by one. */
function gatherThrows(comment) {
  const thrown = comment.blockTags.filter(({ tag }) => tag === '@throws');
  if (thrown.length < 2) return;
  const list = thrown.flatMap(({ content }) => [
    { kind: 'text', text: '- ' },
    ...content,
    { kind: 'text', text: '\n' },
  ]);
  comment.blockTags = comment.blockTags.filter((tag) => !thrown.includes(tag));
  comment.blockTags.push(new CommentTag('@throws', list));
}

/** The text with the names of errors as links. */
function linked(parts) {
  const names = new RegExp(`\\b(${errors.map(({ name }) => name).join('|')})\\b`);
  return parts.flatMap((part) => {
    if (part.kind !== 'text') return [part];
    return part.text.split(names).map((text) => {
      const target = errors.find((error) => error.name === text);
      return target === undefined
        ? { kind: 'text', text }
        : { kind: 'inline-tag', tag: '@link', text, target };
    });
  });
}

/** The property or the type that is an object written out, of which this is a property. */
function ownerOf({ parent }) {
  const owner = parent.kindOf(ReflectionKind.TypeLiteral) ? parent.parent : undefined;
  return owner?.kindOf(ReflectionKind.Property | ReflectionKind.TypeAlias) ? owner : undefined;
}

function stopAtWarnings() {
  if (app.logger.hasErrors() || app.logger.hasWarnings()) process.exit(1);
}

function compare() {
  const files = new Set([...filesOf(out), ...filesOf(REFERENCE)]);
  const stale = [...files].filter((file) => textOf(join(out, file)) !== textOf(join(REFERENCE, file)));
  if (stale.length === 0) return;
  const list = stale.map((file) => `  ${join(REFERENCE, file)}`).join('\n');
  console.error(`The reference is not what the docstrings say: make it anew by npm run reference.\n${list}`);
  process.exit(1);
}

function filesOf(folder) {
  try {
    return readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(folder, join(entry.parentPath, entry.name)));
  } catch {
    return [];
  }
}

function textOf(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
