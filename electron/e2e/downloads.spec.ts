// Downloading: found on the hub, cut in between, the page loaded anew, the sidecar killed and back.
import type { Page } from "@playwright/test";

import { expect, test } from "./fixtures";

const card = (page: Page, quant: RegExp) =>
  page.getByRole("article", { name: /Cedar-8B-Instruct/ }).filter({ hasText: quant });

async function choose(page: Page, quant: string): Promise<void> {
  await page.getByRole("searchbox", { name: "Search Hugging Face" }).fill("cedar");
  await page.getByRole("button", { name: /northwind\/Cedar-8B-Instruct-GGUF/ }).click();
  const option = page.getByRole("listitem", { name: new RegExp(`^${quant}$`, "i") });
  await expect(option.getByText("fits on disk")).toBeVisible();
  await option.getByRole("button", { name: /Download/ }).click();
}

/** So slow that what is looked at is still under way, however long looking takes. */
const SLOW = { bytes_per_second: 200_000 };
const UNLIMITED = { bytes_per_second: 0 };

test("a model is found and downloaded, through a cut connection and a reload of the page", async ({ open, stage }) => {
  await stage.fault({ actions: [{ action: "Cut", at: 8_000_000 }], kind: "cdn", path: "*", times: 1 });
  await stage.call("set_download_limits", SLOW);
  const page = await open("#/discover");
  await choose(page, "Q4_K_M");
  await page.getByRole("link", { name: "Downloads" }).click();
  await expect(card(page, /q4_k_m/i).getByRole("progressbar")).toBeVisible();
  await page.reload();
  await expect(card(page, /q4_k_m/i).getByRole("progressbar")).toBeVisible();
  await stage.call("set_download_limits", UNLIMITED);
  await expect(card(page, /q4_k_m/i).getByText("complete", { exact: true })).toBeVisible({ timeout: 120_000 });
  await card(page, /q4_k_m/i)
    .getByRole("button", { name: "Show in library" })
    .click();
  await expect(page.getByRole("complementary", { name: /Details of Cedar/ })).toBeVisible();
  const cuts = (await stage.hubRequests()).filter(({ kind }) => kind === "cdn");
  expect(cuts.length).toBeGreaterThan(1);
});

test("a download is paused, goes on, and survives the sidecar's sudden end", async ({ open, stage }) => {
  await stage.call("set_download_limits", SLOW);
  const page = await open("#/discover");
  await choose(page, "Q8_0");
  await page.getByRole("link", { name: "Downloads" }).click();
  const one = card(page, /q8_0/i);
  await one.getByRole("button", { name: "Pause" }).click();
  await expect(one.getByText("paused", { exact: true })).toBeVisible();
  await one.getByRole("button", { name: "Go on" }).click();
  await expect(one.getByText("downloading", { exact: true })).toBeVisible();

  const { port } = stage;
  await stage.kill();
  await expect(page.getByRole("alert").getByText("The sidecar does not answer.").first()).toBeVisible();
  await stage.start(port);
  await expect(page.getByRole("alert")).toHaveCount(0);
  await stage.call("set_download_limits", UNLIMITED);
  await expect(one.getByText("complete", { exact: true })).toBeVisible({ timeout: 120_000 });
});
