/** An event as it stands in a stream of bytes. */
export interface Seen {
  /** Its own bytes, from its first field to its blank line. */
  readonly length: number;
  /** The offset of the byte behind it. */
  readonly end: number;
  /** `undefined` for one without an id. */
  readonly seq: number | undefined;
  /** What its id says behind the @, as it stands there. */
  readonly label: string | undefined;
  readonly event: string;
  /** The first line of its data, or the beginning of it. */
  readonly data: string;
}

const BLANK_LINE = Buffer.from('\n\n');
// Enough for every field but long data.
const HEAD = 600;
const FIELDS = /(?:id: [\da-z]+-(\d+)(?:@(\S*))?\n)?(?:event: (\S+)\n)?data: (.*)/;

/**
 * The events that are complete in these bytes. What stands before the first field of an event, such as a heartbeat,
 * a retry or a chunk's size, is passed over.
 */
export function scan(bytes: Buffer): { seen: Seen[]; end: number } {
  const seen: Seen[] = [];
  let start = 0;
  for (let at = bytes.indexOf(BLANK_LINE); at !== -1; at = bytes.indexOf(BLANK_LINE, start)) {
    const end = at + BLANK_LINE.length;
    const fields = FIELDS.exec(bytes.toString('latin1', start, Math.min(end, start + HEAD)));
    if (fields !== null) {
      const [, seq, label, event = 'message', data = ''] = fields;
      const length = end - start - fields.index;
      // One byte a character until here, so that what is counted is bytes.
      const text = Buffer.from(data, 'latin1').toString();
      seen.push({ length, end, seq: seq === undefined ? undefined : Number(seq), label, event, data: text });
    }
    start = end;
  }
  return { seen, end: start };
}
