// Whether what was printed is what a page says. `…` stands for anything in its line, or for any
// lines where it is one, and what is drawn anew each time for anything of its kind.

const UUID = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}';
const TIME = '\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z';
const KINDS: readonly { readonly kind: RegExp; readonly pattern: string }[] = [
  { kind: /(?<=\n)…\n/y, pattern: '(?:.*\\n)*?' },
  { kind: /…/y, pattern: '.*' },
  { kind: new RegExp(UUID, 'y'), pattern: UUID },
  { kind: new RegExp(TIME, 'y'), pattern: TIME },
  { kind: /(?<=^retry: )\d+/my, pattern: '\\d+' },
  { kind: /(?<=^Date: ).+/my, pattern: '.+' },
];
const POSITION = /\b([0-9a-f]{12})-(\d+)/y;

/** What a page says is printed. */
export class Expected {
  readonly #beginning: RegExp;
  readonly #whole: RegExp;
  readonly #positions: readonly { readonly epoch: string; readonly seq: number }[];

  /** @param epochs those of the page that are known already, and what they are */
  constructor(
    text: string,
    readonly epochs: Map<string, string> = new Map(),
  ) {
    // Its last line says that more is printed than the page shows.
    const goesOn = text.endsWith('\n…');
    const { source, positions } = compile(goesOn ? text.slice(0, -2) : text);
    this.#beginning = new RegExp(`^${source}(?:\n[^]*)?$`);
    this.#whole = goesOn ? this.#beginning : new RegExp(`^${source}$`);
    this.#positions = positions;
  }

  /** Whether this begins with all that the page shows. */
  isIn(printed: string): boolean {
    return this.#isFound(this.#beginning, printed);
  }

  /** Whether this is what the page shows, and no more where it does not say so. */
  is(printed: string): boolean {
    return this.#isFound(this.#whole, printed);
  }

  #isFound(pattern: RegExp, printed: string): boolean {
    const found = pattern.exec(printed.replace(/\n$/, ''));
    return found !== null && this.#areConsistent(found.slice(1));
  }

  /** An epoch of the page is the same wherever it stands; and what comes next comes next, wherever it begins. */
  #areConsistent(found: readonly string[]): boolean {
    const epochs = new Map(this.epochs);
    let offset: number | undefined;
    for (const [index, { epoch, seq }] of this.#positions.entries()) {
      const actual = found[2 * index] as string;
      if ((epochs.get(epoch) ?? actual) !== actual) return false;
      epochs.set(epoch, actual);
      const distance = Number(found[2 * index + 1]) - seq;
      offset ??= distance;
      if (distance !== offset) return false;
    }
    for (const [epoch, actual] of epochs) this.epochs.set(epoch, actual);
    return true;
  }
}

function compile(text: string): { source: string; positions: { epoch: string; seq: number }[] } {
  const positions: { epoch: string; seq: number }[] = [];
  let source = '';
  let at = 0;
  const match = (pattern: RegExp) => {
    pattern.lastIndex = at;
    return pattern.exec(text) ?? undefined;
  };
  while (at < text.length) {
    const kind = KINDS.find((each) => match(each.kind) !== undefined);
    const position = kind === undefined ? match(POSITION) : undefined;
    const [what = text[at] as string, epoch = '', seq] =
      (kind === undefined ? position : match(kind.kind)) ?? [];
    if (position !== undefined) {
      positions.push({ epoch, seq: Number(seq) });
      source += '([0-9a-f]{12})-(\\d+)';
    } else source += kind?.pattern ?? what.replace(/[\\^$.*+?()[\]{}|/]/, '\\$&');
    at += what.length;
  }
  return { source, positions };
}
