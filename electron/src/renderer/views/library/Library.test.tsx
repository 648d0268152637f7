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
