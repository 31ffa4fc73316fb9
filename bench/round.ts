import { Bout, type Sample } from './bout.js';
import type { Load } from './cases.js';
import type { Contender } from './contenders.js';

/**
 * One round of all contenders, each by its name. They are all there at once, and have a part of it in turns: noise that
 * comes and goes within seconds hits all of them. Only where memory is measured they come one after the other.
 * @throws unless all streams were opened, and the clients counted exactly what was written, on every stream
 */
export async function round(
  contenders: readonly Contender[],
  load: Load,
  number: number,
  flags: readonly string[],
): Promise<Map<string, Sample>> {
  const takesTurns = load.measure !== 'memory';
  const order = inTurn(contenders, number);
  const samples = new Map<string, Sample>();
  for (const group of takesTurns ? [order] : order.map((one) => [one])) {
    const bouts: Bout[] = [];
    try {
      for (const contender of group) {
        const bout = new Bout(contender, load, flags);
        bouts.push(bout);
        await bout.prepare();
      }
      for (let part = 0; part < load.parts; part += 1) {
        for (const bout of inTurn(bouts, part)) await bout.part();
      }
      for (const bout of bouts) samples.set(bout.contender.name, await bout.end());
    } finally {
      for (const bout of bouts) bout.kill();
    }
  }
  return samples;
}

/** Nobody is always first, or always behind the same other, which has moved builds 10 % apart that cost the same. */
function inTurn<One>(all: readonly One[], turn: number): One[] {
  const start = (turn >> 1) % all.length;
  const order = [...all.slice(start), ...all.slice(0, start)];
  return turn % 2 === 0 ? order : order.reverse();
}
