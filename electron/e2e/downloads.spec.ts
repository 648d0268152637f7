// Downloading: found on the hub, cut in between, the page loaded anew, the sidecar killed and back.
import type { Page } from "@playwright/test";

import { expect, silence, test } from "./fixtures";

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

test("limits that were changed elsewhere are shown at once", async ({ open, stage, context }) => {
  await stage.call("set_download_limits", { bytes_per_second: 0, at_once: 1, any_time: true });
  const page = await open("#/downloads");
  const limits = page.getByRole("region", { name: "Limits" });
  await expect(limits.getByText("no limit")).toBeVisible();
  const asked: string[] = [];
  page.on("request", (request) => asked.push(request.url()));
  await silence(page, 2000); // nothing is asked for until something happens

  await stage.call("set_download_limits", { bytes_per_second: 3_000_000, at_once: 7 });
  await expect(limits.getByText("2.86 MiB/s")).toBeVisible();
  await expect(limits.getByRole("combobox", { name: "At once" })).toHaveValue("7");
  await stage.call("set_download_limits", { schedule: { start: "01:00", end: "02:30" } });
  await expect(limits.getByRole("switch")).toBeChecked();
  const times = limits.locator("input[type=time]");
  await expect(times.nth(1)).toHaveValue("02:30");
  await stage.call("set_download_limits", { schedule: { start: "01:00", end: "03:45" } });
  await expect(times.nth(1)).toHaveValue("03:45");

  const other = await context.newPage();
  await other.goto(await stage.address());
  await other.goto(`${stage.url}/#/downloads`);
  await other.getByRole("combobox", { name: "At once" }).selectOption("4");
  await expect(limits.getByRole("combobox", { name: "At once" })).toHaveValue("4");
  await other.getByRole("switch").click();
  await expect(limits.getByRole("switch")).not.toBeChecked();
  await other.close();

  const before = asked.length;
  await silence(page, 3000);
  expect(asked.length - before, "nobody polls").toBeLessThan(3);
});
