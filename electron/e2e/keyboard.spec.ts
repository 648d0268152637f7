// All that the page does without a pointer: views, dialogs, a model's way into the trash and back, the queue's order.
import { type Page, expect, models, onOwnStage } from "./fixtures";

const test = onOwnStage();

const focused = (page: Page) => page.locator(":focus");

test("views have numbers, keys have a list, and dialogs give the focus back", async ({ open }) => {
  const page = await open();
  for (const [number, heading] of [
    [2, "Discover"],
    [3, "Downloads"],
    [4, "Apps"],
    [5, "Monitor"],
    [6, "Stores"],
    [7, "Settings"],
    [1, "Library"],
  ] as const) {
    await page.keyboard.press(`Alt+${number}`);
    await expect(page.getByRole("heading", { level: 1, name: heading })).toBeAttached();
  }
  const trash = page.getByRole("button", { name: "Trash" });
  await trash.focus();
  await page.keyboard.press("?");
  const keys = page.getByRole("dialog", { name: "Keyboard shortcuts" });
  await expect(keys.getByText("Alt 1–7")).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(keys).toHaveCount(0);
  await expect(trash).toBeFocused();

  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog", { name: "Trash" });
  await expect(dialog).toBeVisible();
  for (let step = 0; step < 6; step++) {
    await page.keyboard.press("Tab");
    await expect(dialog.locator(":focus")).toHaveCount(1); // the page behind it cannot be reached
  }
  await page.keyboard.press("Escape");
  await expect(trash).toBeFocused();
});

test("the first key leads past the navigation", async ({ open }) => {
  const page = await open("#/settings");
  await page.reload(); // nothing had the focus yet
  await expect(page.getByRole("combobox", { name: "Language" })).toBeVisible();
  await page.keyboard.press("Tab");
  await expect(focused(page)).toHaveText("Skip to content");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("main")).toBeFocused();
  await page.keyboard.press("Tab");
  await expect(page.getByRole("combobox", { name: "Language" })).toBeFocused();
  expect(page.url()).toContain("#/settings");
});

test("a list is walked through with its details open, and what is deleted is taken back", async ({ open }) => {
  const page = await open();
  const list = page.getByRole("listbox", { name: "Models" });
  await page.getByRole("searchbox", { name: "Search models" }).fill("refiner");
  await expect(list.getByRole("option")).toHaveCount(1);
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Delete");
  await expect(page.getByText("No model matches.")).toBeVisible();
  await page.getByRole("button", { name: "Undo" }).focus();
  await page.keyboard.press("Enter");
  await expect(list.getByRole("option")).toHaveCount(1);

  await page.getByRole("searchbox", { name: "Search models" }).fill("llama");
  await expect(list.getByRole("option").nth(2)).toBeVisible();
  await list.focus();
  await page.keyboard.press("Home");
  await page.keyboard.press("Enter");
  const details = page.getByRole("complementary", { name: /^Details of / });
  for (const key of ["ArrowDown", "ArrowDown", "ArrowUp", "End", "Home"]) {
    await page.keyboard.press(key);
    const active = (await list.getAttribute("aria-activedescendant")) ?? "";
    const name = await page.locator(`#${active} span`).first().innerText();
    await expect(details).toHaveAccessibleName(`Details of ${name}`);
    await expect(page.locator(`#${active}`)).toHaveAttribute("aria-selected", "true");
  }
  await page.keyboard.press("Delete");
  await expect(details).toHaveCount(0); // they would tell of a model that is not there
  await page.getByRole("button", { name: "Undo" }).focus();
  await page.keyboard.press("Enter");
  await expect(page.getByText(/is in the trash/)).toHaveCount(0);
});

test("what is opened by its address is where the arrows are, in view", async ({ page, stage }) => {
  await page.setViewportSize({ width: 1280, height: 500 });
  await page.goto(await stage.address());
  await page.goto(`${stage.url}/#/library/llm/llama/llama-3_1-8b-instruct-q4_k_m`);
  const list = page.getByRole("listbox", { name: "Models" });
  const row = list.getByRole("option", { selected: true });
  await expect(row).toContainText("Llama 3.1 8B");
  await expect(row).toBeInViewport({ ratio: 1 });
  await expect(list).toHaveAttribute("aria-activedescendant", (await row.getAttribute("id")) ?? "none");
});

test("Escape closes details wherever one is in them, and takes nothing away that was typed", async ({ open }) => {
  const page = await open("#/library/llm/phi/phi-4-q8_0");
  const details = page.getByRole("complementary", { name: /^Details of Phi 4/ });
  await details.getByRole("tab", { name: "Edit" }).click();
  const notes = details.getByLabel("Your notes");
  await notes.fill("not saved yet");
  await page.keyboard.press("Escape");
  await expect(notes).toHaveValue("not saved yet");
  await details.getByRole("tab", { name: "Edit" }).focus();
  await page.keyboard.press("Escape");
  await expect(details).toHaveCount(0);
});

test("what is not shown of a model takes no focus", async ({ open }) => {
  const page = await open("#/library/llm/phi/phi-4-q8_0");
  const details = page.getByRole("complementary", { name: /^Details of Phi 4/ });
  await details.getByRole("button", { name: "Move to trash" }).focus();
  await page.keyboard.press("Tab");
  await expect(page.locator(":focus[role=tabpanel]")).toHaveCount(0);
});

test("keys without Ctrl or Alt can be switched off", async ({ open }) => {
  const page = await open("#/settings");
  const single = page.getByRole("switch", { name: /^Single keys/ });
  await single.focus();
  await page.keyboard.press("Space");
  await expect(single).not.toBeChecked();
  await page.keyboard.press("?");
  await page.keyboard.press("Alt+1");
  const list = page.getByRole("listbox", { name: "Models" });
  await list.focus();
  await page.keyboard.press("/");
  await page.keyboard.press("Control+k");
  await expect(page.getByRole("dialog", { name: "Commands" })).toBeVisible();
  await expect(page.getByRole("dialog")).toHaveCount(1);
  await page.keyboard.press("Escape");
  await expect(list).toBeFocused(); // where `/` would not have left it
  await page.keyboard.press("Alt+7");
  await single.click();
  await page.keyboard.press("?");
  await expect(page.getByRole("dialog", { name: "Keyboard shortcuts" })).toBeVisible();
});

test("downloads are put into another order", async ({ open, stage }) => {
  await stage.call("set_download_limits", { bytes_per_second: 100_000, at_once: 1 });
  for (const quant of ["q4_k_m", "q8_0"])
    await stage.call("start_model_download_from_hf", { repo_id: stage.facts.largeRepo, quant, allow_duplicate: true });
  const page = await open("#/downloads");
  const cards = page.getByRole("region", { name: "Queue" }).getByRole("article");
  const order = async () => (await cards.allInnerTexts()).map((text) => /Q\d\w*/.exec(text)?.[0]);
  await expect(cards).toHaveCount(2);
  expect(await order()).toEqual(["Q4_K_M", "Q8_0"]);
  await cards
    .nth(1)
    .getByRole("button", { name: /^Move / })
    .focus();
  await page.keyboard.press("Space");
  await expect(page.getByRole("status").filter({ hasText: "Cedar" }).first()).toBeAttached();
  await page.keyboard.press("ArrowUp");
  await expect(page.getByText(/is now number 1/)).toBeAttached();
  await page.keyboard.press("Space");
  await expect.poll(order).toEqual(["Q8_0", "Q4_K_M"]);
  await page.reload();
  await expect.poll(order).toEqual(["Q8_0", "Q4_K_M"]);
  const { downloads } = await stage.call<{ downloads: { download_id: string; status: string }[] }>(
    "list_model_downloads",
  );
  for (const { download_id, status } of downloads)
    if (status !== "completed") await stage.call("cancel_model_download", { download_id });
  await stage.call("set_download_limits", { bytes_per_second: 0, at_once: 3 });
});

test("the focus stays near what goes away under it", async ({ open }) => {
  const page = await open();
  const focused = () => page.evaluate(() => document.activeElement?.tagName);
  const press = async (name: string | RegExp) => {
    await page.getByRole("main").getByRole("button", { name }).first().focus();
    await page.keyboard.press("Enter");
  };
  await models(page).nth(1).click();
  await press("Close");
  await expect(page.getByRole("tab")).toHaveCount(0);
  await expect.poll(focused).not.toBe("BODY");
  await page.getByRole("checkbox").first().focus();
  await page.keyboard.press("Space");
  await press("Clear filters");
  await expect(page.getByRole("button", { name: "Clear filters" })).toHaveCount(0);
  await expect.poll(focused).not.toBe("BODY");
  const more = page.getByRole("button", { name: "Show more" });
  const facet = await page.getByRole("group").filter({ has: more }).first().locator("legend").innerText();
  await press("Show more");
  await expect(page.getByRole("group", { name: facet, exact: true }).filter({ has: more })).toHaveCount(0);
  await expect.poll(focused).not.toBe("BODY");
  await page.getByRole("searchbox").fill("nothing has this");
  await press("Clear filters");
  await expect(models(page).first()).toBeVisible();
  await expect.poll(focused).not.toBe("BODY");
});
