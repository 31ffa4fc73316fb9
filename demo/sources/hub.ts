import type { Comet } from 'express-comet';

/** The channels and how many listen, at one moment. */
export interface Census {
  /** Streams open now. One stream carries any number of channels. */
  readonly listeners: number;
  readonly channels: readonly { readonly id: string; readonly listeners: number }[];
}

const CHANGES = ['create', 'end', 'join', 'leave'] as const;

// Milliseconds. A thousand clients that come at once are one change.
const COALESCE = 250;

/** Calls `onChange` when channels or listeners have come or gone. Returns the switch that stops it. */
export function watchHub(push: Comet, onChange: (census: Census) => void): () => void {
  let due: NodeJS.Timeout | undefined;

  const tell = () => {
    due = undefined;
    const { listeners, channels } = push.inspect();
    onChange({ listeners, channels: channels.map(({ id, listeners }) => ({ id, listeners })) });
  };
  const changed = () => {
    due ??= setTimeout(tell, COALESCE);
  };

  const switches = CHANGES.map((name) => push.on(name, changed));
  tell();
  return () => {
    for (const off of switches) off();
    clearTimeout(due);
  };
}
