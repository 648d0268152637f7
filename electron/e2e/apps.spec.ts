// Apps: installed with its stages shown, given the library's models, run with its log live, stopped, switched, and back.
import { lstatSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import type { Page } from "@playwright/test";

import { expect, test, watchFor } from "./fixtures";

test.describe.configure({ mode: "serial", timeout: 600_000 });

const app = (page: Page) => page.getByRole("region", { name: "ComfyUI" });
const installed = (page: Page, tag: string) => app(page).getByRole("listitem", { name: tag, exact: true });

async function install(page: Page, tag: string): Promise<void> {
  await app(page).getByRole("button", { name: "Look for new versions" }).click();
  await expect(page.getByText(/^The list is fresh: \d+ versions\.$/)).toBeVisible();
  const wasShown = await watchFor(page, `[aria-label="Installing ${tag}"] [role="progressbar"]`);
  await app(page)
    .getByRole("button", { name: `Install ${tag}` })
    .focus();
  await page.keyboard.press("Enter");
  await expect(installed(page, tag).getByRole("button", { name: `Actions: ${tag}` })).toBeVisible({ timeout: 300_000 });
  await wasShown();
  await expect(page.getByRole("region", { name: `Installing ${tag}` })).toHaveCount(0);
  // Not on the next version's button, where one more press would install that one too.
  await expect(page.locator(":focus")).toHaveText(`${tag} is installed.`);
}

test("a version is installed, also when the page is loaded anew in the middle", async ({ open }) => {
  const page = await open("#/apps");
  const wasShown = await watchFor(page, '[aria-label="Installing v0.5.0"]');
  await app(page).getByRole("button", { name: "Install v0.5.0" }).click();
  await wasShown();
  await page.reload();
  await expect(installed(page, "v0.5.0").getByText("active", { exact: true })).toBeVisible({ timeout: 300_000 });
});

test("the library finds what it uses", async ({ open, stage }) => {
  const page = await open();
  const { total_count } = await stage.call<{ total_count: number }>("list_links", { app_id: "comfyui" });
  expect(total_count).toBeGreaterThan(0);
  await page
    .getByRole("complementary", { name: "Filters" })
    .getByRole("checkbox", { name: `ComfyUI ${total_count}`, exact: true })
    .check();
  await expect(page.getByText(`${total_count} models`, { exact: true })).toBeVisible();
});

test("it runs, tells what it prints while it prints it, and stops", async ({ open }) => {
  const page = await open("#/apps");
  await app(page).getByRole("button", { name: "Run", exact: true }).click();
  await expect(app(page).getByText("running", { exact: true })).toBeVisible({ timeout: 120_000 });
  await app(page).getByRole("tab", { name: "Log" }).click();
  await expect(app(page).getByRole("log")).not.toHaveText("Nothing printed yet.");
  await page.getByRole("link", { name: "Monitor" }).click();
  await expect(page.getByRole("main").getByRole("article", { name: "ComfyUI v0.5.0" })).toBeVisible();
  await page.goBack();
  await app(page).getByRole("button", { name: "Stop" }).click();
  await expect(app(page).getByRole("button", { name: "Run", exact: true })).toBeVisible({ timeout: 120_000 });
});

test("its own file in the way of a model is a conflict, which is resolved by choice and never in silence", async ({
  open,
  stage,
}) => {
  const folder = join(stage.facts.root, "comfyui-versions", "v0.5.0", "models", "checkpoints");
  const name = readdirSync(folder).find((one) => one.includes("FLUX.1-schnell")) ?? "";
  const target = join(folder, name);
  expect(lstatSync(target).isSymbolicLink()).toBe(true);
  rmSync(target);
  writeFileSync(target, "the person's own file");

  const page = await open("#/apps");
  await app(page).getByRole("tab", { name: "Models" }).click();
  const conflict = app(page).getByRole("combobox", { name: /Something is in the way: FLUX.1 schnell/ });
  await expect(conflict).toBeVisible();
  await expect(conflict).toHaveValue("skip");
  await conflict.selectOption({ label: "Move it aside and link" });
  const apply = app(page).getByRole("button", { name: "Apply" });
  await apply.focus();
  await page.keyboard.press("Enter");
  const moved = page.getByText(/^Moved aside: /);
  await expect(moved).toBeVisible();
  await expect(conflict).toHaveCount(0);
  await expect(apply).toBeDisabled();
  await expect(apply).toBeFocused();
  expect(lstatSync(target).isSymbolicLink()).toBe(true);
  const aside = (await moved.innerText()).split("Moved aside: ")[1]?.trim() ?? "";
  expect(readFileSync(aside, "utf8")).toBe("the person's own file");
});

test("versions are switched, taken back, removed and restored", async ({ open }) => {
  const page = await open("#/apps");
  await install(page, "v0.4.1");
  await installed(page, "v0.4.1").getByRole("button", { name: "Make active" }).click();
  await expect(installed(page, "v0.4.1").getByText("active", { exact: true })).toBeVisible();
  await app(page).getByRole("button", { name: "Take back the last change" }).click();
  await expect(installed(page, "v0.5.0").getByText("active", { exact: true })).toBeVisible();
  await installed(page, "v0.4.1").getByRole("button", { name: "Actions: v0.4.1" }).click();
  await page.getByRole("menuitem", { name: "Move to trash" }).click();
  const removed = app(page).getByRole("region", { name: "Removed versions" });
  await removed.getByRole("listitem", { name: "v0.4.1" }).getByRole("button", { name: "Restore" }).click();
  await expect(installed(page, "v0.4.1").getByRole("button", { name: "Make active" })).toBeVisible();
});
