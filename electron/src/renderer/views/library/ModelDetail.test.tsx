import { expect, it } from "vitest";

import { CallError } from "../../client/errors";
import { settle, shown } from "../../testing/shown";
import ModelDetail from "./ModelDetail";

const ID = "llm/phi/phi-4";

it("shows nothing any more of a model that another tab has deleted, but what became of it", async () => {
  let gone = false;
  const { place, tell } = await shown(<ModelDetail modelId={ID} onClose={() => undefined} />, (method) => {
    if (method !== "get_model") return { success: true };
    if (gone) return Promise.reject(new CallError("model_not_found", "No model."));
    return { success: true, metadata: { official_name: "Phi 4" }, overrides: {}, folder: "/phi" };
  });
  expect(place.querySelectorAll("[role=tab]").length).toBe(5);
  gone = true;
  tell("model.removed", { model_id: ID });
  const told = () => settle().then(() => place.querySelector("[role=alert]")?.textContent);
  await expect.poll(told, { interval: 0 }).toContain("No model.");
  expect(place.querySelectorAll("[role=tab], [role=tabpanel]").length).toBe(0);
});
