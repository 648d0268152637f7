// The pictures of the README: the real page over the prepared library. Every test run makes them, into test-results;
// `npm run pictures` writes those of docs/pictures anew.
import { join } from "node:path";

import type { Page } from "@playwright/test";

import { expect, test } from "./fixtures";

const FOLDER = process.env.PUMAS_PICTURES ?? join("test-results", "pictures");

test.use({ viewport: { width: 1280, height: 800 }, deviceScaleFactor: 1 });

async function picture(page: Page, name: string, scheme: "dark" | "light"): Promise<void> {
  await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
  await page.mouse.move(0, 0);
  await page.screenshot({ path: join(FOLDER, `${name}.png`), animations: "disabled", caret: "hide" });
}

test("the library, found while typing", async ({ open }) => {
  const page = await open();
  await page.getByRole("searchbox", { name: "Search models" }).fill("qwen");
  await page.getByRole("option").filter({ hasText: "Qwen2.5 Coder 14B" }).click();
  await expect(page.getByRole("complementary", { name: /Details of Qwen2.5 Coder 14B/ })).toBeVisible();
  await expect(page.getByText("code, favourite").first()).toBeVisible();
  await picture(page, "library", "dark");
});

test("what fits, before it is downloaded", async ({ open }) => {
  const page = await open("#/discover");
  await page.getByRole("button", { name: /northwind\/Cedar-8B-Instruct-GGUF/ }).click();
  await expect(page.getByText("fits on disk").first()).toBeVisible();
  await picture(page, "discover", "light");
});

test("downloads with their speed, and what was verified", async ({ open, stage }) => {
  const page = await open("#/downloads");
  const start = (quant: string) =>
    stage.call("start_model_download_from_hf", {
      repo_id: stage.facts.largeRepo,
      quant,
      allow_duplicate: true, // other tests may have brought it already
    });
  await start("q2_k");
  await expect(page.getByText("complete", { exact: true }).first()).toBeVisible();
  await stage.call("set_download_limits", { bytes_per_second: 3_000_000 });
  await start("q8_0");
  await start("q4_k_m");
  await page.waitForTimeout(6000); // a curve takes time; what other tests brought already comes at once
  await picture(page, "downloads", "dark");
  await stage.call("set_download_limits", { bytes_per_second: 0 });
});

test("apps and their versions", async ({ open, stage }) => {
  const page = await open("#/apps");
  const { apps } = await stage.call<{ apps: { app_id: string; installed: string[] }[] }>("list_apps");
  // Other tests on this stage may have installed it.
  if (!apps.some(({ app_id, installed }) => app_id === "comfyui" && installed.includes("v0.5.0"))) {
    await expect(page.getByRole("button", { name: "Install v0.5.0" })).toBeVisible();
    expect(await stage.call("install_version", { tag: "v0.5.0", app_id: "comfyui" })).toMatchObject({ success: true });
  }
  await expect(page.getByRole("button", { name: "Actions: v0.5.0" })).toBeVisible({ timeout: 180_000 });
  await expect(page.getByRole("region", { name: /Installing/ })).toHaveCount(0);
  await picture(page, "apps", "light");
});
