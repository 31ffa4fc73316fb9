import parse, { type Family, type Sample } from 'parse-prometheus-text-format';
import type { MetricsRegistry } from '../../lib/metrics.js';
import { TestServer } from './server.js';

type Labels = Readonly<Record<string, string>>;

/** What Prometheus reads of a registry, at one moment. */
export class Scrape {
  readonly families: readonly Family[];

  constructor(readonly text: string) {
    this.families = parse(text);
  }

  /** The one sample that has these labels and no other; the name without its prefix. */
  sample(name: string, labels: Labels = {}): Sample | undefined {
    const family = this.families.find((each) => each.name === `express_comet_${name}`);
    const wanted = keyOf(labels);
    return family?.metrics.find((sample) => keyOf(sample.labels ?? {}) === wanted);
  }

  value(name: string, labels: Labels = {}): number | undefined {
    const value = this.sample(name, labels)?.value;
    return value === undefined ? undefined : Number(value);
  }

  /** The samples of a counter that are above 0, by the value of their one label. */
  counts(name: string): Record<string, number> {
    const family = this.families.find((each) => each.name === `express_comet_${name}`);
    const samples = family?.metrics.filter(({ value }) => value !== '0') ?? [];
    return Object.fromEntries(
      samples.map(({ labels = {}, value }) => [Object.values(labels).join(), Number(value)]),
    );
  }

  /** Every name with its labels, without the values: what a server of Prometheus has to remember. */
  get series(): string[] {
    const lines = this.text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    return lines.map((line) => line.slice(0, line.lastIndexOf(' '))).sort();
  }
}

/** A server of `/metrics`, as an application would have one; returns what scrapes it. */
export async function scraped(register: MetricsRegistry): Promise<() => Promise<Scrape>> {
  const server = await TestServer.listen(async (_request, response) => {
    response.setHeader('Content-Type', register.contentType);
    response.setHeader('Connection', 'close');
    response.end(await register.metrics());
  });
  return async () => {
    const response = await fetch(`${server.url}/metrics`);
    return new Scrape(await response.text());
  };
}

function keyOf(labels: Labels): string {
  return JSON.stringify(Object.entries(labels).sort());
}
