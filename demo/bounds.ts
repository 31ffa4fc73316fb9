/** Returns the first of these items, as many as fit into so many bytes of JSON. */
export function firstOf<Item>(items: readonly Item[], bytes: number): Item[] {
  let room = bytes;
  return items.filter((item) => {
    if (room > 0) room -= bytesOf(item);
    return room > 0;
  });
}

/** Returns the size of a value as JSON, in bytes. */
export function bytesOf(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value));
}
