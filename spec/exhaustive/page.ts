import type { Item } from './items.js';

/** A cursor as it came over the wire, and as the model has it. Before protocol 1 they differ. */
export interface Cursor {
  readonly wire: string;
  readonly model: string;
}

export const NO_CURSOR: Cursor = { wire: '', model: '' };

/** A URL that the page has made. */
export interface Address {
  readonly names: readonly string[];
  /** The names that the page is new to. */
  readonly added: readonly string[];
  /** The cursor that the page has put into it. */
  readonly own: Cursor;
}

/** A page with one EventSource at a time, which remembers the last id and returns with it to the same URL. */
export class Page {
  address: Address | undefined;
  /** The last id that this EventSource has received. */
  header = NO_CURSOR;
  /** The last id that the page has received. */
  last = NO_CURSOR;
  /** Whether this EventSource has received `comet:open`. */
  isConfirmed = false;

  get names(): string[] {
    return this.address === undefined ? [] : [...this.address.names, ...this.address.added];
  }

  /** The names that the page knows to be carried, and those that it can't know of. */
  get carried(): { names: readonly string[]; others: readonly string[] } {
    if (this.isConfirmed || this.address === undefined) return { names: this.names, others: [] };
    return { names: this.address.names, others: this.address.added };
  }

  /** The page makes a new EventSource. */
  visit(address: Address): void {
    this.address = address;
    this.header = NO_CURSOR;
    this.isConfirmed = false;
  }

  /** An item has come. The code before protocol 1 gives some of them no id, and leaves some out. */
  receive(expected: Item, wire: string | undefined): void {
    this.header = { wire: wire ?? this.header.wire, model: expected.id ?? this.header.model };
    this.last = this.header;
    if (expected.what.startsWith('open')) this.isConfirmed = true;
  }
}
