import { act } from "react";
import { expect, it, vi } from "vitest";

import { CallError } from "../../client/errors";
import { settle, shown } from "../../testing/shown";
import { Library } from "./Library";

vi.stubGlobal("ResizeObserver", class { observe = () => undefined; disconnect = () => undefined; }); // prettier-ignore

it("stays as it was found when the sidecar does not answer any more", async () => {
  let failures = 0;
  const model = { model_id: "llm/a/1", official_name: "Alder", model_type: "llm", tags: [], size_bytes: 1 };
  const found = { success: true, models: [model], total_count: 1, matched: "all", query: "" };
  const { place, tell } = await shown(<Library item="" />, (method) => {
    if (method === "search_models_fts" && failures++ > 0)
      return Promise.reject(new CallError("unreachable", "The sidecar does not answer."));
    if (method === "search_models_fts") return found;
    return { success: true, types: [], families: [], formats: [], quants: [], sizes: [], tags: [], apps: [] };
  });
  const filters = () => place.querySelector("aside[aria-label=Filters]");
  expect(filters()).not.toBeNull();
  tell("library.changed", {});
  await expect.poll(() => settle().then(() => failures), { interval: 0 }).toBeGreaterThan(1);
  await settle();
  expect(filters()).not.toBeNull();
  expect(place.textContent).toContain("Alder");
});

it("says that it is loading while the first answer takes its time", async () => {
  const { place } = await shown(<Library item="llm/a/1" />, () => new Promise(() => undefined));
  const said = () => [...place.querySelectorAll("[role=status]")].map((one) => one.textContent);
  await expect.poll(() => settle().then(said)).toEqual(["Loading …", "Loading …"]); // the list, and the model
});

const counted = (types: Record<string, number>) => ({
  ...{ types, families: {}, formats: {}, quants: {}, sizes: {}, tags: {}, apps: {} },
  success: true,
});

it("offers neither filters nor an order where there is nothing to choose from", async () => {
  for (const models of [[], [{ model_id: "llm/a/1", official_name: "Alder", model_type: "llm", tags: [] }]]) {
    const { place } = await shown(<Library item="" />, (method) =>
      method === "search_models_fts"
        ? { success: true, models, total_count: models.length, matched: "all", query: "" }
        : counted(models.length > 0 ? { llm: 1 } : {}),
    );
    await expect.poll(() => settle().then(() => place.querySelector("aside"))).not.toBeNull();
    await expect
      .poll(() => settle().then(() => place.querySelectorAll("aside h2, select").length))
      .toBe(2 * models.length);
  }
});

it("asks for the order that is chosen", async () => {
  const asked: unknown[] = [];
  const model = { model_id: "llm/a/1", official_name: "Alder", model_type: "llm", tags: [] };
  const { place } = await shown(<Library item="" />, (method, params) => {
    if (method !== "search_models_fts") return counted({});
    asked.push((params as { sort?: string }).sort);
    return { success: true, models: [model], total_count: 1, matched: "all", query: "" };
  });
  await expect.poll(() => settle().then(() => place.querySelector("select"))).not.toBeNull();
  const select = place.querySelector("select");
  if (select === null) throw new Error("no select");
  select.value = "largest";
  act(() => void select.dispatchEvent(new Event("change", { bubbles: true })));
  await expect.poll(() => settle().then(() => asked.at(-1))).toBe("largest");
});
