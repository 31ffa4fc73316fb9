import axe from 'axe-core';
import { expect } from 'chai';
import { type Browser, chromium, type Page } from 'playwright-core';
import { FLAGS, findBrowser } from '../../scripts/browser.mjs';
import type { Demo } from '../support/demo.js';

export { Demo } from '../support/demo.js';

/** The browser that `node scripts/setup.mjs --test` has found or provided. */
export async function launch(): Promise<Browser> {
  const { path, env } = findBrowser();
  return chromium.launch({ executablePath: path, env: env as Record<string, string>, args: [...FLAGS] });
}

/** A page of the demo's, and what went wrong on it. */
export class Visit {
  /** Errors of the console and of scripts, requests that failed, and those that left the origin. */
  readonly faults: string[] = [];

  private constructor(
    readonly page: Page,
    origin: string,
  ) {
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) this.faults.push(`console: ${message.text()}`);
    });
    page.on('pageerror', (error) => this.faults.push(`script: ${error.message}`));
    page.on('requestfailed', (request) => {
      const why = request.failure()?.errorText ?? '';
      // The page's own doing: it closes a stream to open another.
      if (why !== 'net::ERR_ABORTED') this.faults.push(`request: ${request.url()} ${why}`);
    });
    page.on('response', (response) => {
      if (response.status() >= 400) this.faults.push(`response: ${response.url()} ${response.status()}`);
    });
    page.on('request', (request) => {
      if (!request.url().startsWith(`${origin}/`)) this.faults.push(`left the origin: ${request.url()}`);
    });
  }

  /**
   * Opens the overview, and waits until it has heard of everything.
   * @param script runs before any of the page
   */
  static async open(browser: Browser, demo: Demo, script = ''): Promise<Visit> {
    const context = await browser.newContext({ locale: 'en-GB', viewport: { width: 1440, height: 900 } });
    await context.addInitScript({ content: script });
    const page = await context.newPage();
    page.setDefaultTimeout(10_000);
    const visit = new Visit(page, demo.url);
    await page.goto(demo.url);
    await page.locator('#channels tr').first().waitFor();
    return visit;
  }

  /** Shows the overview, with nothing heard and no fault found yet. */
  async begin(): Promise<void> {
    await this.page.getByRole('link', { name: 'Overview' }).click();
    await this.says('#monitor-text', 'Monitor live');
    await this.says('#stream-text', /^Listening/);
    // Chromium reads on for up to 5 s from an EventSource that was closed as its response began.
    await this.says('#total-listeners', /^1$/);
    await this.page.getByRole('button', { name: 'Clear' }).click();
    this.faults.length = 0;
  }

  /** Waits until an element says this. */
  async says(selector: string, text: string | RegExp): Promise<void> {
    const all = this.page.locator(selector);
    try {
      await all.filter({ hasText: text }).first().waitFor();
    } catch (error) {
      const said = await all.allInnerTexts();
      throw new Error(`${selector} does not say ${text}, but ${JSON.stringify(said.slice(0, 5))}`, {
        cause: error,
      });
    }
  }

  text(selector: string): Promise<string> {
    return this.page.locator(selector).first().innerText();
  }

  /** What it has heard on a channel, the oldest first. */
  async heard(channel: string): Promise<string[]> {
    const rows = this.page
      .locator('#heard li')
      .filter({ has: this.page.locator(`.channel[title="${channel}"]`) });
    return (await rows.locator('.data').allInnerTexts()).reverse();
  }

  async showChannel(name: string): Promise<void> {
    await this.page.getByRole('link', { name, exact: true }).click();
    await this.says('#channel-title', name);
  }

  /** Has no violation that axe finds, and fits, in this scheme and at this width. */
  async isSound(colorScheme: 'light' | 'dark', width: number): Promise<void> {
    const { page } = this;
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 900 });
    await page.evaluate(axe.source);
    const violations = await page.evaluate(async () => {
      const { axe } = globalThis as unknown as { axe: typeof import('axe-core') };
      const { violations } = await axe.run({ resultTypes: ['violations'], preload: false });
      return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(', ')}`);
    });
    expect(violations, `${page.url()}, ${colorScheme}, ${width}`).to.deep.equal([]);
    const overflow = await page.locator('html').evaluate((root) => root.scrollWidth - root.clientWidth);
    expect(overflow, `${page.url()}, ${width}`).to.equal(0);
  }

  /** Nothing went wrong, but what `expected` is about. */
  faultless(expected?: RegExp): void {
    expect(this.faults.filter((fault) => !(expected?.test(fault) ?? false))).to.deep.equal([]);
  }
}
