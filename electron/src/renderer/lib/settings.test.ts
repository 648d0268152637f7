import { beforeEach, expect, it, vi } from "vitest";

beforeEach(() => {
  vi.resetModules();
  localStorage.clear();
  delete document.documentElement.dataset.theme;
});

it.each([
  ["not json", undefined],
  ["null", undefined],
  ['{"theme":"pink"}', undefined],
  ['{"theme":"light"}', "light"],
])("reads %s and never breaks", async (stored, theme) => {
  localStorage.setItem("pumas-page", stored);
  const { showTheme } = await import("./settings");
  showTheme();
  expect(document.documentElement.dataset.theme).toBe(theme);
});

it("keeps a choice and shows it at once", async () => {
  const { changePageSettings } = await import("./settings");
  changePageSettings({ theme: "dark" });
  changePageSettings({ language: "de" });
  expect(document.documentElement.dataset.theme).toBe("dark");
  expect(JSON.parse(localStorage.getItem("pumas-page") ?? "")).toMatchObject({ theme: "dark", language: "de" });
  changePageSettings({ theme: "auto" });
  expect(document.documentElement.dataset.theme).toBeUndefined();
});
