// The library: finding, looking closer, editing, deleting and getting back.
import type { Page } from "@playwright/test";

import { expect, test } from "./fixtures";

const list = (page: Page) => page.getByRole("listbox", { name: "Models" });
const row = (page: Page, name: string | RegExp) => list(page).getByRole("option").filter({ hasText: name });
const search = (page: Page) => page.getByRole("searchbox", { name: "Search models" });

test("what is typed is found at once, with its words marked; filters narrow it", async ({ open, stage }) => {
  const page = await open();
  // Other tests on this stage may have brought models of their own.
  const { model_count } = await stage.call<{ model_count: number }>("get_library_status");
  await expect(page.getByText(`${model_count} models`)).toBeVisible();
  await search(page).fill("qwen cod");
  await expect(page.getByText("2 models", { exact: true })).toBeVisible();
  await expect(row(page, "Qwen2.5 Coder 14B").locator("mark").first()).toHaveText(/qwen/i);
  // As it is read out: each word by itself.
  await expect(row(page, "Qwen2.5 Coder 14B")).toHaveAccessibleName(
    /^Qwen2.5 Coder 14B Instruct Q4_K_M \S+ GiB llm · qwen · Q4_K_M · gguf · code, favourite$/,
  );
  const filters = page.getByRole("complementary", { name: "Filters" });
  await expect(filters.getByRole("checkbox", { name: "llm 2", exact: true })).toBeVisible(); // counted in what is found
  await expect(filters.getByRole("checkbox", { name: /diffusion/ })).toHaveCount(0);
  await search(page).fill("");
  await filters.getByRole("checkbox", { name: /diffusion/ }).check();
  await expect(page.getByText("6 models", { exact: true })).toBeVisible();
  await expect(filters.getByRole("checkbox", { name: /llm/ })).toBeVisible(); // still to be chosen beside it
  await filters.getByRole("checkbox", { name: /flux/ }).check();
  await expect(page.getByText("2 models", { exact: true })).toBeVisible();
  await page.getByRole("button", { name: "Clear filters" }).click();
  await search(page).fill("zzzz nothing has this");
  await expect(page.getByText("No model matches.")).toBeVisible();
});

test("models are sorted as a person asks, and stay so while searching and after another view", async ({
  open,
  stage,
}) => {
  const page = await open();
  const sort = page.getByRole("combobox", { name: "Sort by" });
  const names = () =>
    list(page).getByRole("option").locator(":scope > div:first-child > span:first-child").allTextContents();
  const first = async (params: object) => {
    const { models } = await stage.call<{ models: { official_name: string }[] }>("search_models_fts", {
      query: "",
      ...params,
      limit: 5,
    });
    return models.map((model) => model.official_name);
  };
  for (const order of ["largest", "smallest", "name"]) {
    await sort.selectOption(order);
    const expected = await first({ sort: order });
    await expect.poll(async () => (await names()).slice(0, 5)).toEqual(expected);
  }
  await search(page).fill("qwen");
  await expect.poll(async () => (await names()).slice(0, 5)).toEqual(await first({ query: "qwen", sort: "name" }));
  await page.getByRole("navigation").getByRole("link", { name: "Monitor" }).click();
  await page.getByRole("navigation").getByRole("link", { name: "Library" }).click();
  await expect(sort).toHaveValue("name");
  await sort.selectOption("relevance");
});

test("the keyboard alone suffices", async ({ open }) => {
  const page = await open();
  await expect(row(page, "BGE M3")).toBeVisible();
  await page.getByRole("navigation").getByRole("link", { name: "Library" }).focus();
  await page.keyboard.press("/");
  await expect(search(page)).toBeFocused();
  await page.keyboard.type("llama 8b");
  await expect(row(page, "Llama 3.1 8B")).toBeVisible();
  await page.keyboard.press("ArrowDown");
  await expect(list(page)).toBeFocused();
  // Whoever cannot see the pointer sees where the arrows are.
  const marked = list(page).getByRole("option").first();
  await expect(marked).toHaveCSS("outline-style", "solid");
  await expect(list(page)).toHaveAttribute("aria-activedescendant", (await marked.getAttribute("id")) ?? "none");
  await page.keyboard.press("Enter");
  const detail = page.getByRole("complementary", { name: /Details of Llama 3.1 8B/ });
  await expect(detail).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(detail).toHaveCount(0);
  await page.keyboard.press("Control+k");
  await page.getByPlaceholder(/Go to a view/).fill("monitor");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { name: "Monitor" })).toBeVisible();
});

test("a model's facts, files and header are shown; tags and notes are changed and found", async ({ open, stage }) => {
  const page = await open();
  await search(page).fill("phi 4");
  await row(page, "Phi 4").click();
  const detail = page.getByRole("complementary", { name: /Details of Phi 4/ });
  await expect(detail.getByText("llm/phi/phi-4-q8_0").first()).toBeVisible();
  await detail.getByRole("tab", { name: "Files" }).click();
  await expect(detail.getByText("Phi-4-Q8_0.gguf")).toBeVisible();
  await detail.getByRole("tab", { name: "Header" }).click();
  await expect(detail.getByText("general.architecture")).toBeVisible();
  await detail.getByRole("tab", { name: "Edit" }).click();
  await detail.getByLabel("Tags, separated by commas").fill("reasoning, marmalade");
  await detail.getByLabel("Your notes").fill("Good at sums.");
  await detail.getByRole("button", { name: "Save" }).click();
  await expect(page.getByText("Saved.")).toBeVisible();
  await search(page).fill("marmalade");
  await expect(row(page, "Phi 4")).toBeVisible();
  const { metadata } = await stage.call<{ metadata: { tags: string[] } }>("get_model", {
    model_id: "llm/phi/phi-4-q8_0",
  });
  expect(metadata.tags).toEqual(["reasoning", "marmalade"]);
});

test("a deleted model waits in the trash and comes back", async ({ open }) => {
  const page = await open();
  await search(page).fill("whisper");
  await row(page, "Whisper").click();
  const detail = page.getByRole("complementary", { name: /Details of Whisper/ });
  await detail.getByRole("button", { name: "Move to trash" }).click();
  await expect(page.getByText("No model matches.")).toBeVisible();
  await page.getByRole("button", { name: "Trash" }).click();
  const trash = page.getByRole("dialog", { name: "Trash" });
  await trash
    .getByRole("listitem", { name: /Whisper/ })
    .getByRole("button", { name: "Restore" })
    .click();
  await expect(trash.getByText("The trash is empty.")).toBeVisible();
  await trash.getByRole("button", { name: "Close" }).click();
  await expect(row(page, "Whisper")).toBeVisible();
});

test("two tabs show the same: what one changes the other sees", async ({ open, context, stage }) => {
  const first = await open();
  const second = await context.newPage();
  await second.goto(stage.url);
  await search(second).fill("clip vit");
  await expect(row(second, "CLIP ViT")).toBeVisible();
  await search(first).fill("clip vit");
  await row(first, "CLIP ViT").click();
  const detail = first.getByRole("complementary", { name: /Details of CLIP/ });
  await detail.getByRole("tab", { name: "Edit" }).click();
  await detail.getByLabel("Name", { exact: true }).fill("CLIP ViT large renamed");
  await detail.getByRole("button", { name: "Save" }).click();
  await expect(row(second, "CLIP ViT large renamed")).toBeVisible();
});
