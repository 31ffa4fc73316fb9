/** An event as it stands in a stream of bytes. */
export interface Seen {
  /** Its own bytes, from its first field to its blank line. */
  readonly length: number;
  /** The offset of the byte behind it. */
  readonly end: number;
  /** `undefined` for one without an id. */
  readonly id: string | undefined;
  /** The position that its id names, if it names one. */
  readonly seq: number | undefined;
  /** What its id says behind the @, as it stands there. */
  readonly label: string | undefined;
  readonly event: string;
  /** The first line of its data, or the beginning of it. */
  readonly data: string;
  /** The number with which the data of a schedule's write begins. */
  readonly serial: number | undefined;
}

const BLANK_LINE = Buffer.from('\n\n');
// Enough for every field but long data.
const HEAD = 600;
const FIELDS = /(?:id: (\S*)\n)?(?:event: (\S+)\n)?data: (.*)/;
const ID = /^(?:[\da-z]+-(\d+))?[^@]*(?:@(.*))?$/;
const SERIAL = /^(\d+):/;

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
      const [, id, event = 'message', data = ''] = fields;
      const [, seq, label] = ID.exec(id ?? '') ?? [];
      const [, serial] = SERIAL.exec(data) ?? [];
      const length = end - start - fields.index;
      seen.push({
        ...{ length, end, id, label, event },
        seq: numberOf(seq),
        // One byte a character until here, so that what is counted is bytes.
        data: Buffer.from(data, 'latin1').toString(),
        serial: event.startsWith('comet:') ? undefined : numberOf(serial),
      });
    }
    start = end;
  }
  return { seen, end: start };
}

function numberOf(digits: string | undefined): number | undefined {
  return digits === undefined ? undefined : Number(digits);
}
