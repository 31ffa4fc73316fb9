// The commands that pages show. Those that do much are run elsewhere: here it is checked that they exist. `curl` is played by
// this file, as not every machine has one.

import { EventEmitter } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { ROOT } from './page.js';
import { patiently } from './patience.js';

const { name, scripts, dependencies, devDependencies } = JSON.parse(
  readFileSync(join(ROOT, 'package.json'), 'utf8'),
) as Record<'scripts' | 'dependencies' | 'devDependencies', Record<string, string>> & { name: string };
const PACKAGES = [name, ...Object.keys({ ...dependencies, ...devDependencies })];
// What no test needs, and what everybody has.
const FOREIGN = ['redis-server', 'tail', 'docker', 'git', 'cd'];

/** The commands of a block, each as its words. */
export function commandsOf(code: string): string[][] {
  const commands: string[][] = [];
  let words: string[] = [];
  const next = () => {
    if (words.length > 0) commands.push(words);
    words = [];
  };
  const token = /\\\n|(\n|&&?|\|\|?|;)|#[^\n]*|((?:'[^']*'|"(?:\\.|[^"])*"|\\[^\n]|[^\s'"\\&|;])+)|\s/g;
  for (const [, separator, word] of code.matchAll(token)) {
    if (separator !== undefined) next();
    if (word !== undefined) words.push(word.replace(/'([^']*)'|"((?:\\.|[^"])*)"|\\(.)/g, unquoted));
  }
  next();
  return commands;
}

function unquoted(_: string, single?: string, double?: string, escaped?: string): string {
  return single ?? double?.replace(/\\(["\\$`])/g, '$1') ?? escaped ?? '';
}

/**
 * Throws where a command names what is not there.
 * @param isTold whether the page has told how to make a file
 */
export function check(words: readonly string[], isTold: (file: string) => boolean): void {
  const [command = '', ...args] = words.slice(words.findIndex((word) => !/^[A-Z_]+=/.test(word)));
  const [first = ''] = args;
  const plain = args.filter((arg) => !arg.startsWith('-'));
  const files = plain.filter((arg) => /^[\w./-]+\.(?:ts|js|mjs|sh)$/.test(arg));
  const must = (holds: boolean, what: string) => {
    if (!holds) throw new Error(`${words.join(' ')}: there is no ${what}`);
  };
  for (const file of files) must(existsSync(join(ROOT, file)) || isTold(file), `file ${file}`);

  if (command === 'npm' && /^(i|install)$/.test(first)) {
    for (const wanted of plain.slice(1))
      must(PACKAGES.includes(wanted), `package ${wanted} that is known here`);
  } else if (command === 'npm') {
    const script = first === 'run' ? (plain[1] ?? '') : first;
    must(script in scripts, `script ${script}`);
  } else if (command === 'npx') {
    must(existsSync(join(ROOT, 'node_modules', '.bin', first)), `program ${first}`);
  } else if (command === 'node') {
    must(files.length > 0, 'file to run');
  } else if (!FOREIGN.includes(command)) {
    throw new Error(`${words.join(' ')}: nobody knows how to check this; see spec/docs/shell.ts`);
  }
}

/** What a variable of the environment is, in the commands of a page and in the blocks that run. */
export function secretOf(variable: string): string {
  return `value-of-${variable}`;
}

/** The variables of the environment that commands name. */
export function variablesOf(code: string): string[] {
  return Array.from(code.matchAll(VARIABLE), ([, name]) => name as string);
}

/** A word with the variables of the environment as they are. */
export function expanded(word: string): string {
  return word.replace(VARIABLE, (_, name: string) => secretOf(name));
}

/** What `curl` would do. */
export interface Curl {
  readonly url: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
  /** Whether the head of the answer is printed. */
  readonly head: boolean;
}

const VARIABLE = /\$([A-Z][A-Z\d_]*)/g;
const WITH_VALUE = /^(?:-X|--request|-H|--header|-d|--data|--data-raw|--data-binary|--json|-u|--user)$/;
const WITHOUT = /^-(?:N|s|i|S|f|I|-no-buffer|-silent|-include|-head)+$/;

/** Reads the words of a `curl`. Throws for an option that is not known here. */
export function parseCurl(words: readonly string[]): Curl {
  const headers: Record<string, string> = { Accept: '*/*', Connection: 'keep-alive' };
  let url = '';
  let method: string | undefined;
  let body: string | undefined;
  let head = false;
  for (let at = 1; at < words.length; at += 1) {
    const word = words[at] as string;
    if (WITH_VALUE.test(word)) {
      const value = words[++at] ?? '';
      const [key = '', ...rest] = value.split(':');
      if (/^(-X|--request)$/.test(word)) method = value;
      else if (/^(-H|--header)$/.test(word)) headers[key] = rest.join(':').trim();
      else if (/^(-u|--user)$/.test(word))
        headers.Authorization = `Basic ${Buffer.from(value).toString('base64')}`;
      else {
        body = value;
        headers['Content-Type'] ??=
          word === '--json' ? 'application/json' : 'application/x-www-form-urlencoded';
      }
    } else if (WITHOUT.test(word)) {
      if (/I|-head$/.test(word)) method = 'HEAD';
      head ||= /^-[a-zA-Z]*[iI]|-include|-head/.test(word);
    } else if (word.startsWith('-')) throw new Error(`curl: nobody knows the option ${word} here`);
    else url = word.includes('://') ? word : `http://${word}`;
  }
  return { url, method: method ?? (body === undefined ? 'GET' : 'POST'), headers, body, head };
}

/**
 * Does what `curl` would, and tells what it prints, piece by piece, until it is told that this is enough. Returns the
 * status of the answer.
 * @param ports where what listens on a port of the page can be reached
 */
export async function curl(
  { url, method, headers, body, head }: Curl,
  ports: Readonly<Record<string, number>>,
  print: (piece: string) => boolean,
): Promise<number | undefined> {
  const { hostname, port: wanted, pathname, search } = new URL(url);
  const port = /^(localhost|127\.0\.0\.1)$/.test(hostname) ? ports[wanted] : undefined;
  if (port === undefined) throw new Error(`curl: nothing above on this page listens at ${url}`);
  const sent = request({ port, host: '127.0.0.1', path: pathname + search, method, headers, agent: false });
  const answered = new Promise<IncomingMessage>((resolve, reject) => {
    sent.on('response', resolve).on('error', reject);
  });
  sent.end(body);
  const response = await answered;
  const told = new EventEmitter();
  let isEnough = print(head ? headOf(response) : '');
  response.setEncoding('utf8').on('data', (piece: string) => {
    isEnough = print(piece);
    told.emit('change');
  });
  response.on('end', () => told.emit('change'));
  await patiently(told, 'change', () => response.readableEnded || isEnough);
  response.destroy();
  return response.statusCode;
}

function headOf({ statusCode, statusMessage, rawHeaders }: IncomingMessage): string {
  const fields = rawHeaders.flatMap((field, index) =>
    index % 2 === 0 ? `${field}: ${rawHeaders[index + 1]}` : [],
  );
  return `HTTP/1.1 ${statusCode} ${statusMessage}\n${fields.join('\n')}\n\n`;
}
