// What the support of the specs leaves to mocha, for a run without it. To be imported first.

const hooks: ((this: object) => Promise<void>)[] = [];

if (!('afterEach' in globalThis)) {
  Object.assign(globalThis, { afterEach: (hook: (typeof hooks)[number]) => hooks.push(hook) });
}

/** Does what is done after each test. */
export async function afterOne(): Promise<void> {
  for (const hook of hooks) await hook.call({});
}
