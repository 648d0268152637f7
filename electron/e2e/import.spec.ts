// Importing by drag and drop: files of a browser are received, recognised, and taken in.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";

import type { Locator, Page } from "@playwright/test";

import { expect, test } from "./fixtures";

const row = (page: Page, name: RegExp) =>
  page.getByRole("listbox", { name: "Models" }).getByRole("option").filter({ hasText: name });
const search = (page: Page) => page.getByRole("searchbox", { name: "Search models" });

/** Drop files on the page as a person does out of a file manager. */
async function drop(page: Page, target: Locator, ...paths: string[]): Promise<void> {
  const files = paths.map((path) => ({ name: basename(path), base64: readFileSync(path).toString("base64") }));
  const transfer = await page.evaluateHandle((given) => {
    const data = new DataTransfer();
    for (const { name, base64 } of given) {
      const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
      data.items.add(new File([bytes], name));
    }
    return data;
  }, files);
  const tell = (type: string) => target.dispatchEvent(type, { dataTransfer: transfer });
  await hover(page, () => tell("dragenter"));
  for (const type of ["dragover", "drop"]) await tell(type);
}

/** Hold something over the page until the page says that it may be dropped. */
async function hover(page: Page, enter: () => Promise<unknown>): Promise<void> {
  await expect(async () => {
    await enter();
    await expect(page.getByText("Drop to import")).toBeVisible({ timeout: 2000 });
  }).toPass({ timeout: 60_000 });
}

test("a file that is dropped is recognised, imported and found", async ({ open, stage }) => {
  const page = await open();
  const path = stage.facts.files["Aspen-3B-Instruct-Q4_K_M.gguf"] ?? "";
  await drop(page, page.locator("body"), path);
  const dialog = page.getByRole("dialog", { name: "Import models" });
  await expect(dialog.getByText("ready", { exact: true })).toBeVisible();
  await dialog.getByRole("button", { name: "Import 1 model" }).click();
  await expect(dialog.getByText("1 model imported.")).toBeVisible();
  await dialog.getByRole("button", { name: "Close" }).last().click();
  await search(page).fill("aspen");
  await expect(row(page, /Aspen/)).toBeVisible();

  await drop(page, page.locator("body"), path);
  await expect(dialog.getByText(/The library has it already/)).toBeVisible();
  await expect(dialog.getByRole("button", { name: /Import 0/ })).toBeDisabled();
});

test("parts of one model are one model; a pickle needs a word of trust", async ({ open, stage }) => {
  const page = await open();
  const parts = Object.entries(stage.facts.files).flatMap(([name, path]) => (name.startsWith("Birch") ? [path] : []));
  await drop(page, page.locator("body"), ...parts, stage.facts.files["old-style.ckpt"] ?? "");
  const dialog = page.getByRole("dialog", { name: "Import models" });
  await expect(dialog.getByText("2 parts")).toBeVisible();
  await expect(dialog.getByText(/can run code when it is loaded/)).toBeVisible();
  await expect(dialog.getByText("needs your decision", { exact: true })).toHaveCount(1);
  await expect(dialog.getByText("cannot be imported", { exact: true })).toHaveCount(0);
  await expect(dialog.getByRole("button", { name: "Import 1 model" })).toBeEnabled();
  await dialog.getByRole("switch", { name: "I trust it" }).click();
  await dialog.getByRole("button", { name: "Import 2 models" }).click();
  await expect(dialog.getByText("2 models imported.")).toBeVisible();
  await dialog.getByRole("button", { name: "Close" }).last().click();
  await search(page).fill("birch");
  await expect(row(page, /Birch/)).toHaveCount(1);
});

test("a folder that is dropped comes with what is in it", async ({ open, stage }) => {
  const page = await open();
  const { folder } = stage.facts;
  const content = readFileSync(stage.facts.files["Aspen-3B-Instruct-Q4_K_M.gguf"] ?? "");
  const model = join(folder, "Dropped folder");
  mkdirSync(join(model, ".cache"), { recursive: true });
  writeFileSync(join(model, "Elm-7B-Q4_K_M.gguf"), Buffer.concat([content, Buffer.from("elm")]));
  writeFileSync(join(model, "README.md"), "# Elm 7B");
  writeFileSync(join(model, ".cache", "secret"), "not wanted");
  await dragIn(page, model);
  const dialog = page.getByRole("dialog", { name: "Import models" });
  const candidate = dialog.getByRole("article", { name: "Dropped folder" });
  await expect(candidate.getByText("ready", { exact: true })).toBeVisible();
  await candidate.getByRole("textbox").fill("Elm 7B");
  await dialog.getByRole("button", { name: "Import 1 model" }).click();
  await expect(dialog.getByText("1 model imported.")).toBeVisible();
  await dialog.getByRole("button", { name: "Close" }).last().click();
  await search(page).fill("elm");
  await row(page, /Elm 7B/).click();
  const detail = page.getByRole("complementary", { name: "Details of Elm 7B" });
  await detail.getByRole("tab", { name: "Files" }).click();
  await expect(detail.getByText("Elm-7B-Q4_K_M.gguf").first()).toBeVisible();
  await expect(detail.getByText("secret")).toHaveCount(0);
});

test("a folder of several models is each of them", async ({ open, stage }) => {
  const page = await open();
  const content = readFileSync(stage.facts.files["Aspen-3B-Instruct-Q4_K_M.gguf"] ?? "");
  const folder = join(stage.facts.folder, "My models");
  mkdirSync(folder, { recursive: true });
  for (const name of ["Rowan-7B-Q4_K_M", "Alder-7B-Q4_K_M"]) {
    writeFileSync(join(folder, `${name}.gguf`), Buffer.concat([content, Buffer.from(name)]));
  }
  await dragIn(page, folder);
  const dialog = page.getByRole("dialog", { name: "Import models" });
  await expect(dialog.getByText("ready", { exact: true })).toHaveCount(2);
  await dialog.getByRole("button", { name: "Import 2 models" }).click();
  await expect(dialog.getByText("2 models imported.")).toBeVisible();
  await dialog.getByRole("button", { name: "Close" }).last().click();
  await search(page).fill("rowan");
  await expect(row(page, /Rowan/)).toHaveCount(1);
});

/** Drag something of the disk over the page and drop it there, as the system does. */
async function dragIn(page: Page, path: string): Promise<void> {
  const session = await page.context().newCDPSession(page);
  const data = { items: [], files: [path], dragOperationsMask: 1 };
  const tell = (type: "dragEnter" | "dragOver" | "drop") =>
    session.send("Input.dispatchDragEvent", { type, x: 400, y: 400, data });
  await hover(page, () => tell("dragEnter"));
  await tell("dragOver");
  await tell("drop");
  await session.detach();
}
