/** Where a page stands, as the id that it received last says. */
export interface Cursor {
  /** `new`, a position, or `gap-0` for a cursor that can't be read. */
  readonly mark: string;
  /** Up to here the page has everything of the channels that it carried. */
  readonly at?: number;
  /** The names that were new in its request have yet to start. */
  readonly isFirst?: boolean;
  /** The channel that has yet to start. */
  readonly restarts?: string | undefined;
  /** Up to here the page was told that its channels are gone. */
  readonly goneAt?: number;
}

/** Reads a cursor: `12`, `12@a`; in the middle of a start `new!`, `12!@a`; `12+!@a` where the request had new names. */
export function parseCursor(text: string, head: number): Cursor {
  if (text === '') return { mark: 'new' };
  if (text.startsWith('gone-')) return { mark: 'gap-0', goneAt: Number(text.slice(5)) };
  const [, mark, plus, bang, label] = /^(new(?=!)|gap-0|\d+)(\+(?=!))?(!)?(?:@(.*))?$/.exec(text) ?? [];
  if (mark === 'new') return { mark };
  const isFirst = plus !== undefined;
  if (!(Number(mark) <= head)) return { mark: 'gap-0', isFirst };
  return { mark: `${mark}`, at: Number(mark), isFirst, restarts: bang === undefined ? undefined : label };
}

/** Reads the cursor of a page that has put it into another URL. Which names were new there, this URL does not say. */
export function parseOwnCursor(text: string, head: number): Cursor {
  const cursor = parseCursor(text, head);
  return cursor.isFirst ? { mark: 'gap-0' } : cursor;
}
