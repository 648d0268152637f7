// What the tests of the page share: a stage per file, a page that is logged in, and no error on its console.
import { type Page, test as base, expect } from "@playwright/test";

import { Stage } from "./stage";

interface Shared {
  stage: Stage;
}

interface PerTest {
  /** Whatever the page complains of on its console, refusals by the policy included. */
  complaints: string[];
  /** Open the page with a fresh code. */
  open: (path?: string) => Promise<Page>;
}

/** A network that breaks on purpose is no fault of the page. */
const EXPECTED = /ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_INCOMPLETE_CHUNKED|status of 401|ERR_EMPTY_RESPONSE/;

const STAGE_MS = 240_000;

async function playOn(stage: Stage, use: (stage: Stage) => Promise<void>): Promise<void> {
  await stage.start();
  await use(stage);
  await stage.strike();
}

export const test = base.extend<PerTest, Shared>({
  stage: [
    // eslint-disable-next-line no-empty-pattern -- Playwright reads the pattern
    async ({}, use) => playOn(await Stage.set(), use),
    { scope: "worker", timeout: STAGE_MS },
  ],

  complaints: [
    async ({ context }, use) => {
      const heard: string[] = [];
      context.on("console", (message) => {
        if (message.type() === "error" || message.text().includes("Content Security Policy"))
          heard.push(message.text());
      });
      context.on("weberror", (error) => heard.push(String(error.error())));
      await use(heard);
      expect(heard.filter((text) => !EXPECTED.test(text))).toEqual([]);
    },
    { auto: true },
  ],

  open: async ({ page, stage }, use) => {
    await use(async (path = "") => {
      await page.goto(await stage.address());
      await expect(page.getByRole("main")).toBeVisible();
      if (path !== "") await page.goto(`${stage.url}/${path}`);
      return page;
    });
  },
});

/** The same on a stage that no other file has changed; `empty`: with no model in it. */
export function onOwnStage(made: { empty?: boolean } = {}): typeof test {
  return test.extend<object, Shared>({
    stage: [
      // eslint-disable-next-line no-empty-pattern -- Playwright reads the pattern
      async ({}, use) => playOn(await Stage.set(made), use),
      { scope: "worker", timeout: STAGE_MS },
    ],
  });
}

/** Wait until the page has asked for nothing for a while: what it shows is complete. */
export async function silence(page: Page, ms: number, timeout = 120_000): Promise<void> {
  let last = Date.now();
  const asked = () => (last = Date.now());
  page.on("request", asked);
  await expect.poll(() => Date.now() - last, { timeout, intervals: [100] }).toBeGreaterThan(ms);
  page.off("request", asked);
}

declare global {
  interface Window {
    glimpsed: boolean;
  }
}

/** Watch for something that may be gone before anybody looks; call the result to see that it was there. */
export async function watchFor(page: Page, selector: string): Promise<() => Promise<void>> {
  await page.evaluate((css) => {
    const look = () => (window.glimpsed ||= document.querySelector(css) !== null);
    window.glimpsed = false;
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true });
    look();
  }, selector);
  return () => expect.poll(() => page.evaluate(() => window.glimpsed), { message: selector }).toBe(true);
}

/** The rows of the library's list. */
export const models = (page: Page) => page.getByRole("listbox", { name: "Models" }).getByRole("option");

export { expect, type Page };
