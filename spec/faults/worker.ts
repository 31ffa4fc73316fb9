import { run } from './machine.js';
import { planOf } from './plan.js';

// Runs the schedules that the long run hands to it, one after the other.
process.on('message', async ({ seed, writes }: { seed: number; writes: number }) => {
  const { figures, faults } = await run(planOf(seed, writes));
  process.send?.({ figures, faults });
});
// Also if a schedule never ended.
process.on('disconnect', () => process.exit());
