// So that clients which were opened, told or refused together do not come back together.

/** A whole number drawn from a range, both ends included. */
export function drawn([min, max]: readonly [number, number]): number {
  return min + Math.floor(Math.random() * (max - min + 1));
}

/** A time that is as long as this at the most, and four fifths of it at the least. */
export function shortened(time: number): number {
  return time * (0.8 + 0.2 * Math.random());
}
