// What a page does when nothing happens: nothing. And what everybody must be able to use: all of it.
import AxeBuilder from "@axe-core/playwright";

import { type Page, expect, silence, test } from "./fixtures";

test("a page at rest asks for nothing in a whole minute", async ({ open }) => {
  const page = await open();
  await expect(page.getByText(/\d+ models/)).toBeVisible();
  await silence(page, 60_000, 200_000);
});

test.describe.configure({ timeout: 900_000 });

/** Where everybody must get on: each view, and what opens in it. */
const PLACES: Readonly<Record<string, (page: Page) => Promise<unknown>>> = {
  library: () => Promise.resolve(),
  "library: no match": (page) => page.getByRole("searchbox").fill("nothing has this"),
  "library: words marked": (page) => page.getByRole("searchbox").fill("llama chat"),
  "library: import": (page) => page.getByRole("button", { name: "Import", exact: true }).click(),
  "library: trash": (page) => page.getByRole("button", { name: "Trash" }).click(),
  "library: commands": (page) => page.keyboard.press("Control+k"),
  "library: keys": (page) => page.getByRole("button", { name: "Trash" }).press("?"),
  "library/llm/phi/phi-4-q8_0": (page) => expect(page.getByText("reasoning").last()).toBeVisible(),
  ...Object.fromEntries(
    ["Files", "Header", "Used by", "Edit"].map((name) => [
      `library/llm/phi/phi-4-q8_0: ${name}`,
      (page: Page) => page.getByRole("tab", { name }).click(),
    ]),
  ),
  discover: () => Promise.resolve(),
  "discover/northwind/Cedar-8B-Instruct-GGUF": (page) => expect(page.getByText("fits on disk").first()).toBeVisible(),
  downloads: () => Promise.resolve(),
  apps: () => Promise.resolve(),
  "apps: Log": (page) => page.getByRole("tab", { name: "Log" }).click(),
  "apps: Models": (page) => page.getByRole("tab", { name: "Models" }).click(),
  monitor: () => Promise.resolve(),
  stores: () => Promise.resolve(),
  settings: () => Promise.resolve(),
};

/** In a small window more has to be scrolled, which the keyboard has to be able to do. */
const WINDOWS = {
  dark: { width: 1280, height: 860 },
  light: { width: 360, height: 740 },
};

for (const scheme of ["dark", "light"] as const) {
  test(`no view has a barrier that can be measured, ${scheme}, ${WINDOWS[scheme].width} px`, async ({ open }) => {
    const page = await open();
    await page.setViewportSize(WINDOWS[scheme]);
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    const found: string[] = [];
    for (const [place, lead] of Object.entries(PLACES)) {
      const [route] = place.split(":");
      await page.goto(`${page.url().replace(/#.*/, "")}#/${route}`);
      await expect(page.getByRole("main")).toBeVisible();
      await lead(page);
      await silence(page, 500); // what a view loads is part of it
      const { violations } = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21aa"]).analyze();
      found.push(...violations.map(({ id, nodes }) => `${place}: ${id}: ${nodes.map(({ html }) => html).join(" ")}`));
      await page.keyboard.press("Escape");
      if (place.includes(":")) await page.reload();
    }
    expect(found).toEqual([]);
  });
}

test("the page speaks German when the person does, and remembers it", async ({ open }) => {
  const page = await open("#/settings");
  await page.getByRole("combobox", { name: "Language" }).selectOption({ label: "Deutsch" });
  await expect(page.getByRole("link", { name: "Bibliothek" })).toBeVisible();
  await expect(page.locator("html")).toHaveAttribute("lang", "de");
  await expect(page.getByRole("button", { name: "Befehle" })).toContainText("Strg K");
  await page.reload();
  await expect(page.getByRole("link", { name: "Bibliothek" })).toBeVisible();
});
