// How the page is laid out on small and very large screens, in both languages, with names that nobody expects.
import type { Page } from "@playwright/test";

import { expect, models, onOwnStage } from "./fixtures";

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

/** Words and sizes that begin in one line and end in the next: what a person has to put together again. */
function broken(): string[] {
  const isBroken = (node: Node, start: number, end: number) => {
    const range = document.createRange();
    range.setStart(node, start);
    range.setEnd(node, end);
    return new Set([...range.getClientRects()].map(({ top }) => Math.round(top))).size > 1;
  };
  return [...document.querySelectorAll(`main :is(h1, td${innerWidth > 600 ? ", th, td > span" : ""})`)]
    .filter((one) => one.clientWidth > 1 && one.firstChild instanceof Text)
    .flatMap((one) => {
      const pattern = one.tagName === "TD" ? /^[\d.,]+ [KMGT]?i?B$/g : /\p{L}+/gu;
      const node = one.firstChild as Text;
      const found = [...node.data.matchAll(pattern)];
      return found.filter(({ 0: { length }, index }) => isBroken(node, index, index + length)).map(([text]) => text);
    });
}

async function inOneLine(page: Page): Promise<void> {
  const tops = await page.getByRole("tab").evaluateAll((tabs) => tabs.map((tab) => tab.getBoundingClientRect().top));
  expect(tops.length).toBeGreaterThan(1);
  expect(new Set(tops).size, "tabs are in one line").toBe(1);
}

/** The smallest are those of a window of 1280 px whose page is enlarged to 200 % and 400 % (WCAG 1.4.4, 1.4.10). */
const SIZES = [
  { width: 320, height: 480, languages: ["de"] },
  { width: 640, height: 400, languages: ["de"] },
  { width: 800, height: 600, languages: ["de"] },
  { width: 900, height: 700, languages: ["de"] },
  { width: 1280, height: 800, languages: ["en", "de"] },
  { width: 3840, height: 2160, languages: ["en", "de"] },
];

for (const { width, height, languages } of SIZES) {
  for (const language of languages) {
    test(`every view fits ${width} px, ${language}`, async ({ page, stage }) => {
      await page.setViewportSize({ width, height });
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
        expect(await page.evaluate(broken), view).toEqual([]);
      }
      await page.goto(`${stage.url}/#/apps`);
      await expect(page.getByRole("tab").first()).toBeVisible();
      if (width >= 800) await inOneLine(page);
      for (const model_id of Object.keys(NAMES)) {
        await page.goto(`${stage.url}/#/library/${model_id}`);
        const detail = page.getByRole("complementary").filter({ has: page.getByRole("tablist") });
        await expect(detail.getByRole("heading").first()).toBeVisible();
        if (width >= 800) await inOneLine(page);
        for (const tab of await page.getByRole("tab").all()) {
          await tab.click();
          await expect.poll(() => page.evaluate(overflowing), { message: model_id }).toEqual([]);
          expect(await page.evaluate(broken), model_id).toEqual([]);
        }
      }
    });
  }
}

test("in a small window what was chosen takes the place of its list, and leads back", async ({ page, stage }) => {
  await page.setViewportSize({ width: 640, height: 400 });
  await page.goto(await stage.address());
  await page.goto(`${stage.url}/#/discover`);
  const result = page.getByRole("button", { name: /^northwind\/Cedar/ });
  await result.click();
  const download = page.getByRole("button", { name: /^Download .*Q2_K/ });
  await download.scrollIntoViewIfNeeded();
  await expect(download).toBeInViewport({ ratio: 1 });
  await expect(result).toBeHidden();
  await page.getByRole("button", { name: "Back to the list" }).click();
  await expect(result).toBeInViewport();

  await page.setViewportSize({ width: 320, height: 480 });
  await page.goto(`${stage.url}/#/library`);
  await models(page).first().click();
  await expect(page.getByRole("tab").first()).toBeVisible();
  await expect(page.getByRole("listbox", { name: "Models" })).toBeHidden();
  await page.getByRole("button", { name: "Close" }).click();
  await expect(models(page).first()).toBeVisible();
  await page.getByRole("button", { name: "Import", exact: true }).click();
  await expect(page.getByRole("dialog").getByRole("button").first()).toBeVisible();
  for (const button of await page.getByRole("dialog").getByRole("button").all())
    await expect(button).toBeInViewport({ ratio: 1 });
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog")).toBeHidden();

  await stage.call("delete_model_with_cascade", { model_id: "vision/clip/clip-vit-l-14-fp16" });
  await page.getByRole("button", { name: "Trash" }).click();
  const deleted = page.getByRole("dialog").getByRole("listitem");
  const name = await deleted.locator("strong").boundingBox();
  expect(name?.width, "a name is not cut into letters").toBeGreaterThan(120);
  // The second press of a double click answers nothing.
  const ask = page.getByRole("button", { name: "Empty the trash" });
  const place = (await ask.boundingBox()) ?? { x: 0, y: 0, width: 0, height: 0 };
  await page.mouse.dblclick(place.x + place.width / 2, place.y + place.height / 2);
  await expect(page.getByRole("alert")).toBeVisible();
  await expect(deleted).toHaveCount(1);
  await deleted.getByRole("button", { name: "Restore" }).click();
  await expect(deleted).toHaveCount(0);
});

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
  await expect(models(page)).toHaveCount(1);
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
