/** A time in which something was done to the cluster. */
export interface Trouble {
  readonly what: string;
  /** The node that it was done to; undefined for all of them. */
  readonly node: string | undefined;
  readonly from: number;
  to: number;
}

/** What was done to the cluster, and when: in milliseconds of `now()`. */
export class Troubles {
  readonly #all: Trouble[] = [];

  add(trouble: Omit<Trouble, 'to'>): Trouble {
    const added = { ...trouble, to: Infinity };
    this.#all.push(added);
    return added;
  }

  /** What was done to a node, or to all, between these times. */
  of(node: string, from: number, to: number): readonly Trouble[] {
    return this.#all.filter((one) => {
      return (one.node === undefined || one.node === node) && one.from <= to && one.to >= from;
    });
  }

  /** The troubles of a kind. */
  called(what: string): readonly Trouble[] {
    return this.#all.filter((one) => one.what === what);
  }
}
