// For a process whose clock a test moves on: `--import ./spec/support/clock.ts`. After SIGUSR2 the process is six minutes
// further. It prints so when the timer of its hub, its only interval, has seen that.

const now = performance.now.bind(performance);
const interval = setInterval;
let offset = 0;
let isTold = true;

performance.now = () => now() + offset;
globalThis.setInterval = ((run: () => void, delay: number) =>
  interval(() => {
    const isNews = !isTold;
    run();
    if (!isNews) return;
    isTold = true;
    console.log('Six minutes have gone by.');
  }, delay)) as typeof setInterval;

process.on('SIGUSR2', () => {
  offset += 6 * 60_000;
  isTold = false;
});
