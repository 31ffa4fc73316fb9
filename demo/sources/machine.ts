import { cpus, freemem, totalmem } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';

/** What this machine was doing in the last second. */
export interface Sample {
  /** When it was taken, in milliseconds since 1970. */
  readonly time: number;
  /** Load of all cores together, in percent. */
  readonly cpu: number;
  /** In bytes. */
  readonly memory: { readonly used: number; readonly total: number };
  /** 99th percentile of how late this process's event loop was, in milliseconds. */
  readonly delay: number;
}

// Milliseconds.
const PERIOD = 1000;
const RESOLUTION = 10;

/** Calls `onSample` once a second. Returns the switch that stops it. */
export function watchMachine(onSample: (sample: Sample) => void): () => void {
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION });
  delays.enable();
  let before = coreTimes();

  const timer = setInterval(() => {
    const now = coreTimes();
    const busy = (now.busy - before.busy) / (now.all - before.all || 1);
    before = now;
    // The histogram holds the whole time between two turns of its timer, and one turn takes RESOLUTION.
    const late = Math.max(0, delays.percentile(99) / 1e6 - RESOLUTION);
    delays.reset();
    onSample({
      time: Date.now(),
      cpu: rounded(busy * 100),
      memory: { used: totalmem() - freemem(), total: totalmem() },
      delay: rounded(late),
    });
  }, PERIOD);

  return () => {
    clearInterval(timer);
    delays.disable();
  };
}

/** Since the machine started, of all cores: they only ever grow, so that two readings tell the load between. */
function coreTimes(): { busy: number; all: number } {
  let idle = 0;
  let all = 0;
  for (const { times } of cpus()) {
    idle += times.idle;
    all += times.user + times.nice + times.sys + times.idle + times.irq;
  }
  return { busy: all - idle, all };
}

function rounded(value: number): number {
  return Math.round(value * 10) / 10;
}
