import type { ChannelOptions, Comet, Health, ListenerCount, Outcome, SendOptions } from '../../lib/index.js';

export interface Actions {
  open(name: string, options?: ChannelOptions): void;
  knows(name: string): boolean;
  write(name: string, texts: readonly string[]): void;
  send(name: string, text: string, options?: SendOptions): Promise<Outcome>;
  end(name: string): void;
  count(name: string): Promise<ListenerCount>;
  health(): Promise<Health>;
  close(): Promise<void>;
  told(): readonly string[];
}

export function actionsOf(push: Comet): Actions;
