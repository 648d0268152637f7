// How the page is laid out on small and very large screens, in both languages, with names that nobody expects.
import type { Page } from "@playwright/test";

import { expect, onOwnStage } from "./fixtures";

const test = onOwnStage();

const LONG = "a-very-long-name-without-any-space-".repeat(8);
const NAMES = {
  "llm/phi/phi-4-q8_0": LONG,
  "llm/gemma/gemma-2-9b-it-q4_k_m": "نموذج اللغة العربية 7B",
  "llm/gemma/gemma-2-27b-it-q4_k_m": "👩‍👩‍👧‍👦🦙 Lama 🇩🇪 \u202eevil\u202c name",
};

const VIEWS = ["library", "discover", "downloads", "apps", "monitor", "stores", "settings"];

/** What reaches over the window's edge, or over that of what scrolls it. */
function overflowing(): string[] {
  const scrolled = [
    document.documentElement,
    ...document.querySelectorAll<HTMLElement>("main, main :not(input, textarea)"),
  ];
  return scrolled
    .filter((one) => one.clientWidth > 1 && getComputedStyle(one).overflowX !== "visible")
    .filter((one) => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).textOverflow !== "ellipsis")
    .map((one) => `${one.tagName} ${one.className}: ${one.scrollWidth} > ${one.clientWidth}`);
}

async function inOneLine(page: Page): Promise<void> {
  const tops = await page.getByRole("tab").evaluateAll((tabs) => tabs.map((tab) => tab.getBoundingClientRect().top));
  expect(tops.length).toBeGreaterThan(1);
  expect(new Set(tops).size, "tabs are in one line").toBe(1);
}

for (const width of [1280, 3840]) {
  for (const language of ["en", "de"]) {
    test(`every view fits ${width} px, ${language}`, async ({ page, stage }) => {
      await page.setViewportSize({ width, height: width === 1280 ? 800 : 2160 });
      for (const [model_id, official_name] of Object.entries(NAMES))
        await stage.call("update_model", { model_id, official_name, tags: [official_name.slice(0, 190), "chat"] });
      await page.addInitScript(
        (chosen) => localStorage.setItem("pumas-page", JSON.stringify({ language: chosen, theme: "light" })),
        language,
      );
      await page.goto(await stage.address());
      await expect(page.locator("html")).toHaveAttribute("lang", language);
      for (const view of VIEWS) {
        await page.goto(`${stage.url}/#/${view}`);
        await expect(page.getByRole("main").getByRole("heading").first()).toBeAttached();
        await expect.poll(() => page.evaluate(overflowing), { message: view }).toEqual([]);
      }
      await page.goto(`${stage.url}/#/apps`);
      await expect(page.getByRole("tab").first()).toBeVisible();
      await inOneLine(page);
      for (const model_id of Object.keys(NAMES)) {
        await page.goto(`${stage.url}/#/library/${model_id}`);
        const detail = page.getByRole("complementary").filter({ has: page.getByRole("tablist") });
        await expect(detail.getByRole("heading").first()).toBeVisible();
        await inOneLine(page);
        for (const tab of await page.getByRole("tab").all()) {
          await tab.click();
          await expect.poll(() => page.evaluate(overflowing), { message: model_id }).toEqual([]);
        }
      }
    });
  }
}

test("names of any script stand where they belong, beside their sizes", async ({ open, stage }) => {
  for (const [model_id, official_name] of Object.entries(NAMES))
    await stage.call("update_model", { model_id, official_name });
  const page = await open();
  const rows = page.getByRole("option").filter({ hasText: /GiB|MiB/ });
  await expect(rows.first()).toBeVisible();
  const outside = await rows.evaluateAll((all) =>
    all
      .filter((row) => {
        const size = [...row.querySelectorAll("span")].find((one) => /[GM]iB$/.test(one.textContent));
        const place = size?.getBoundingClientRect();
        return place === undefined || place.right > row.getBoundingClientRect().right || place.width === 0;
      })
      .map((row) => row.textContent),
  );
  expect(outside).toEqual([]);
  await expect(page.getByRole("option").filter({ hasText: "نموذج" })).toContainText("5.37 GiB");
  await page.getByRole("searchbox", { name: "Search models" }).fill("نموذج");
  await expect(page.getByRole("option").filter({ hasText: "نموذج" })).toBeVisible();
  await expect(page.getByRole("option")).toHaveCount(1);
});

test("what the sidecar says is German on a German page", async ({ page, stage }) => {
  await page.addInitScript(() =>
    localStorage.setItem("pumas-page", JSON.stringify({ language: "de", theme: "light" })),
  );
  await page.goto(await stage.address());
  await expect(page.locator("html")).toHaveAttribute("lang", "de");
  await page.goto(`${stage.url}/#/library/llm/nobody/nothing`);
  await expect(
    page.getByRole("alert").getByText("In der Bibliothek ist kein Modell „llm/nobody/nothing“."),
  ).toBeVisible();
  await page.goto(`${stage.url}/#/apps/ollama`);
  await expect(page.getByText("Führt Sprachmodelle aus und stellt sie über HTTP bereit.")).toBeVisible();
});
