// What a page of the documentation has in it: its blocks of code, its headings, its links.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** One fenced block. */
export interface Block {
  /** `README.md`, `docs/guide.md`. */
  readonly page: string;
  /** The line of the page on which its code begins. */
  readonly line: number;
  readonly language: string;
  readonly code: string;
  /** Code that stands around it and is not shown, from a comment `<!-- run … -->` above the fence. */
  readonly around: {
    readonly before: readonly string[];
    readonly after: readonly string[];
    readonly line: number;
  };
  /** What it prints: the block of the language `text` that comes next. */
  readonly prints: string | undefined;
}

/** One page. */
export interface Page {
  readonly name: string;
  readonly text: string;
  readonly blocks: readonly Block[];
  /** The anchors of its headings, as GitHub makes them. */
  readonly anchors: ReadonlySet<string>;
  readonly links: readonly { readonly to: string; readonly line: number }[];
}

const FENCE = /^( *)(```+)([\w-]*)\s*$/;
// Where the block stands among the lines of a comment; without that, after them.
const HERE = '…';

export function readPage(name: string): Page {
  return parsePage(name, readFileSync(join(ROOT, name), 'utf8'));
}

export function parsePage(name: string, text: string): Page {
  const lines = text.split('\n');
  const blocks: Block[] = [];
  const anchors = new Set<string>();
  const links: { to: string; line: number }[] = [];
  let above: { from: number; lines: string[] } | undefined;
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at] as string;
    const [, indent = '', ticks, language = ''] = FENCE.exec(line) ?? [];
    if (ticks !== undefined) {
      const end = lines.findIndex((each, index) => index > at && each.trim() === ticks);
      if (end === -1) throw new Error(`${name}:${at + 1}: this block has no end`);
      const code = lines.slice(at + 1, end).map((each) => each.slice(indent.length));
      blocks.push({
        page: name,
        line: at + 2,
        language,
        code: code.join('\n'),
        prints: undefined,
        ...told(above),
      });
      at = end;
      above = undefined;
    } else if (line.startsWith('<!--')) {
      const end = lines.findIndex((each, index) => index >= at && each.includes('-->'));
      above = { from: at + 1, lines: lines.slice(at, end + 1) };
      at = end;
    } else {
      if (above !== undefined)
        throw new Error(`${name}:${above.from}: this comment has no block right below it`);
      const [, heading] = /^#+ +(.*)$/.exec(line) ?? [];
      if (heading !== undefined) anchors.add(anchorOf(heading, anchors));
      // Not within `code`.
      const prose = line.replace(/`[^`]*`/g, '');
      for (const [, to] of prose.matchAll(/\]\(([^)\s]+)\)/g)) links.push({ to: to as string, line: at + 1 });
    }
  }
  return {
    name,
    text,
    blocks: blocks.map((block, index) => withOutput(block, blocks[index + 1])),
    anchors,
    links,
  };
}

function withOutput(block: Block, next: Block | undefined): Block {
  return next?.language === 'text' && block.language !== 'text' ? { ...block, prints: next.code } : block;
}

function told(comment: { from: number; lines: string[] } | undefined): Pick<Block, 'around'> {
  const around = { before: [], after: [], line: 0 };
  if (comment === undefined) return { around };
  const text = comment.lines.join('\n');
  const [, hidden] = /^<!-- run\n(.*)\n-->$/s.exec(text) ?? [];
  if (hidden === undefined) {
    throw new Error(`line ${comment.from}: a comment above a block says "run" and code`);
  }
  const lines = hidden.split('\n');
  const here = lines.indexOf(HERE);
  const [before, after] = here === -1 ? [lines, []] : [lines.slice(0, here), lines.slice(here + 1)];
  return { around: { before, after, line: comment.from + 1 } };
}

function anchorOf(heading: string, taken: ReadonlySet<string>): string {
  const plain = heading.replace(/`/g, '').replace(/\[([^\]]*)\]\([^)]*\)/g, '$1');
  const slug = plain
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\p{M} _-]/gu, '')
    .replaceAll(' ', '-');
  let anchor = slug;
  for (let count = 1; taken.has(anchor); count += 1) anchor = `${slug}-${count}`;
  return anchor;
}
