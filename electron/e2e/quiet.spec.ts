// What a page does when nothing happens: nothing. And what everybody must be able to use: all of it.
import AxeBuilder from "@axe-core/playwright";

import { expect, test } from "./fixtures";

const VIEWS = ["library", "discover", "downloads", "apps", "monitor", "stores", "settings"] as const;

test("a page at rest asks for nothing", async ({ open }) => {
  const page = await open();
  await expect(page.getByText(/\d+ models/)).toBeVisible();
  await page.waitForTimeout(2000); // what it loads after the first view
  const asked: string[] = [];
  page.on("request", (request) => asked.push(request.url()));
  // A quarter of a minute, in which a page that polls every few seconds is found out.
  await page.waitForTimeout(15_000);
  expect(asked).toEqual([]);
});

for (const scheme of ["dark", "light"] as const) {
  test(`no view has a barrier that can be measured, ${scheme}`, async ({ open }) => {
    const page = await open();
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    for (const view of VIEWS) {
      await page.goto(`${page.url().replace(/#.*/, "")}#/${view}`);
      await expect(page.getByRole("main")).toBeVisible();
      await page.waitForTimeout(600); // what the view loads is part of it
      const { violations } = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21aa"]).analyze();
      const found = violations.map(({ id, nodes }) => `${view}: ${id}: ${nodes.map(({ html }) => html).join(" ")}`);
      expect(found).toEqual([]);
    }
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
