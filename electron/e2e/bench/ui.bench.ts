// The page's figures, of the built page in Chromium against a real sidecar. PUMAS_BENCH_MODELS says how large the
// library is, PUMAS_BENCH_SECONDS how long the quiet and the busy page are watched; rows go to PUMAS_BENCH_OUT.
import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

import { type Locator, type Page, type Request, expect, test as base } from "@playwright/test";

import { CHECKOUT, Stage } from "../stage";
import { FIRST_ROW, probe } from "./probe";

const MODELS = Number(process.env.PUMAS_BENCH_MODELS ?? 100_000);
const SECONDS = Number(process.env.PUMAS_BENCH_SECONDS ?? 120);
const OUT = process.env.PUMAS_BENCH_OUT ?? "/dev/stdout";
/** A new window makes Chromium load pages of its own beside ours; a person's window has been open for long. */
const BROWSER_SETTLES_MS = 3000;
const RENDERER = join(CHECKOUT, "electron", "dist", "renderer");

interface Row {
  name: string;
  measured: number;
  unit: string;
  baseline?: number;
  at_most?: number;
}

const tell = (row: Row) => appendFileSync(OUT, `${JSON.stringify(row)}\n`);

const test = base.extend<object, { stage: Stage }>({
  stage: [
    // eslint-disable-next-line no-empty-pattern -- Playwright reads the pattern
    async ({}, use) => {
      const stage = await Stage.set({ models: MODELS });
      await stage.start();
      const indexed = async () =>
        (await stage.call<{ indexing: boolean; model_count: number }>("get_library_status")).model_count;
      await expect.poll(indexed, { timeout: 600_000 }).toBe(stage.facts.models);
      await use(stage);
      await stage.strike();
    },
    { scope: "worker", timeout: 900_000 },
  ],
});

async function openPage(page: Page, stage: Stage): Promise<void> {
  await probe(page);
  const address = await stage.address();
  const shown = page.waitForEvent("console", (message) => message.text() === FIRST_ROW);
  await page.goto(address, { waitUntil: "commit" });
  await shown;
}

function percentile(values: number[], percent: number): number {
  const ordered = [...values].sort((a, b) => a - b);
  return ordered[Math.max(0, Math.ceil((ordered.length * percent) / 100) - 1)] ?? Number.NaN;
}

test("first useful paint", async ({ browser, stage }) => {
  const times: number[] = [];
  const files = new Set<string>();
  for (let round = 0; round < 9; round++) {
    const context = await browser.newContext(); // nothing in any cache
    const page = await context.newPage();
    await page.waitForTimeout(BROWSER_SETTLES_MS);
    const ask = (request: Request) => files.add(new URL(request.url()).pathname);
    page.on("request", ask);
    await openPage(page, stage);
    page.off("request", ask);
    times.push((await page.evaluate(() => window.probe.firstRow)) ?? Number.NaN);
    await context.close();
  }
  tell({
    name: "first useful paint, empty cache: median of 9",
    measured: percentile(times, 50),
    unit: "ms",
    at_most: 300,
  });
  tell({ name: "first useful paint, empty cache: slowest", measured: percentile(times, 100), unit: "ms" });

  const index = readFileSync(join(RENDERER, "index.html"), "utf8");
  const first = [...index.matchAll(/(?:src|href)="\.\/(assets\/[^"]+)"/g)].map(([, file]) => file ?? "");
  const gzipped = (names: string[]) =>
    names.reduce((sum, name) => sum + gzipSync(readFileSync(join(RENDERER, name))).length, 0);
  const asked = [...files].map((path) => (path === "/" ? "index.html" : path.slice(1)));
  const loaded = asked.filter((name) => name === "index.html" || name.startsWith("assets/"));
  expect(loaded).toEqual(expect.arrayContaining(first));
  tell({ name: "bundle of the first view, gzip", measured: gzipped(loaded) / 1024, unit: "KB", at_most: 250 });
});

test("typing", async ({ page, stage }) => {
  await openPage(page, stage);
  await page.waitForTimeout(BROWSER_SETTLES_MS);
  const box = page.getByRole("searchbox", { name: "Search models" });
  const words = ["llama q4", "qwen 7b", "sdxl", "mistral", "gemma 2 9b", "bf16", "phi", "flux dev"];
  const times: number[] = [];
  const asked: number[] = [];
  for (const word of words) {
    await box.fill("");
    await page.waitForTimeout(300);
    let query = "";
    for (const letter of word) {
      query += letter;
      if (letter === " ") {
        await page.keyboard.press("Space"); // finds nothing new
        await page.waitForTimeout(150);
        continue;
      }
      await page.evaluate((text) => window.probe.arm(text), query);
      await page.keyboard.press(letter);
      const took = await page.evaluate(() => window.probe.took());
      if (took > 0) times.push(took); // else the letter changed nothing that is shown
      const before = performance.now();
      await stage.call("search_models_fts", { query, limit: 100 });
      asked.push(performance.now() - before);
    }
  }
  expect(times.length).toBeGreaterThan(20);
  const name = `typing to results painted, ${MODELS.toLocaleString("en")} models`;
  tell({
    name: `${name}: p95`,
    measured: percentile(times, 95),
    unit: "ms",
    baseline: percentile(asked, 95),
    at_most: 50,
  });
  tell({ name: `${name}: median`, measured: percentile(times, 50), unit: "ms", baseline: percentile(asked, 50) });
});

/** Lengths of frames in ms while a list is scrolled down and up again. */
async function scrolled(page: Page, list: Locator): Promise<number[]> {
  await page.waitForTimeout(BROWSER_SETTLES_MS);
  const place = await list.boundingBox();
  if (place === null) throw new Error("no list");
  const session = await page.context().newCDPSession(page);
  const scroll = (distance: number) =>
    session.send("Input.synthesizeScrollGesture", {
      x: place.x + 100,
      y: place.y + 200,
      yDistance: -distance,
      speed: 4000,
      gestureSourceType: "mouse",
    });
  await scroll(2000);
  await page.evaluate(() => window.probe.record());
  await scroll(24_000);
  await scroll(-24_000);
  const frames = await page.evaluate(() => window.probe.frames());
  expect(frames.length).toBeGreaterThan(100);
  return frames;
}

/** As long and as wide as the list, and nothing to do for it: what the browser needs by itself. */
const BARE_LIST = `<div role="listbox" style="height: 90vh; overflow: auto; font: 16px sans-serif">
  ${Array.from({ length: 500 }, (_, row) => `<p style="height: 3rem">Row ${row}</p>`).join("")}</div>`;

test("scrolling", async ({ page, stage }) => {
  await openPage(page, stage);
  const frames = await scrolled(page, page.getByRole("listbox", { name: "Models" }));
  await page.goto("about:blank");
  await page.setContent(BARE_LIST);
  const bare = await scrolled(page, page.getByRole("listbox"));
  const figures: [name: string, of: (lengths: number[]) => number, unit: string, atMost?: number][] = [
    ["longest frame", (lengths) => Math.max(...lengths), "ms", 33],
    ["p99 of frames", (lengths) => percentile(lengths, 99), "ms"],
    ["frames over 33 ms", (lengths) => lengths.filter((one) => one > 33.4).length, ""],
  ];
  for (const [name, of, unit, atMost] of figures) {
    const row = { name: `scrolling: ${name}`, measured: of(frames), baseline: of(bare), unit };
    tell(atMost === undefined ? row : { ...row, at_most: atMost });
  }
});

test("a page at rest", async ({ page, stage }) => {
  await openPage(page, stage);
  await page.waitForTimeout(5000);
  let asked = 0;
  page.on("request", () => asked++);
  await page.waitForTimeout(Math.min(SECONDS, 60) * 1000);
  tell({ name: "requests at rest, each minute", measured: (asked * 60) / Math.min(SECONDS, 60), unit: "", at_most: 0 });
});

test("memory while much happens", async ({ page, stage }) => {
  await openPage(page, stage);
  const session = await page.context().newCDPSession(page);
  const used = async () => {
    await session.send("HeapProfiler.collectGarbage");
    const { usedSize } = await session.send("Runtime.getHeapUsage");
    return usedSize / 1024 / 1024;
  };
  const model_id = "llm/phi/phi-4-q8_0";
  const points: { x: number; y: number }[] = [];
  const begun = Date.now();
  let events = 0;
  while (Date.now() - begun < SECONDS * 1000) {
    for (let burst = 0; burst < 40; burst++) {
      await stage.call("update_model", { model_id, tags: ["reasoning", `tag ${events++ % 7}`] });
    }
    // The first fifth is the page's warming up.
    const x = (Date.now() - begun) / 3_600_000;
    if (x * 3_600_000 > SECONDS * 200) points.push({ x, y: await used() });
  }
  const rate = Math.round(events / SECONDS);
  tell({
    name: `page memory after ${SECONDS} s of ${rate} changes a second`,
    measured: points.at(-1)?.y ?? 0,
    unit: "MB",
  });
  tell({ name: "page memory: slope", measured: Math.max(0, slope(points)), unit: "MB/h", at_most: 20 });
});

function slope(points: { x: number; y: number }[]): number {
  const mean = (pick: (point: { x: number; y: number }) => number) =>
    points.reduce((sum, point) => sum + pick(point), 0) / points.length;
  const [x, y] = [mean((point) => point.x), mean((point) => point.y)];
  const over = points.reduce((sum, point) => sum + (point.x - x) * (point.y - y), 0);
  return over / points.reduce((sum, point) => sum + (point.x - x) ** 2, 0);
}
