import { act } from "react";
import { expect, it } from "vitest";

import { useCall } from "../../client/hooks";
import { settle, shown, type } from "../../testing/shown";
import { ModelEdit } from "./ModelEdit";
import { readMetadata, versionRanges } from "./metadata";

const ID = "llm/phi/phi-4";

function Edit() {
  const model = useCall("get_model", { model_id: ID });
  return model.data && <ModelEdit modelId={ID} facts={readMetadata(model.data.metadata, ID)} overrides={model.data.overrides} />; // prettier-ignore
}

it("saves what was typed and nothing else: another tab may have changed the rest meanwhile", async () => {
  let metadata = { official_name: "Phi 4", tags: ["reasoning"], notes: "old" };
  let overrides = { version_ranges: { comfyui: ">=0.4" } };
  const saved: [string, object][] = [];
  const app = { app_id: "comfyui", name: "ComfyUI", takes_models: true };
  const { place, tell } = await shown(<Edit />, (method, params) => {
    if (method === "list_apps") return { success: true, apps: [app] };
    if (method === "get_model") return { success: true, metadata, overrides, folder: "/phi" };
    saved.push([method, params]);
    if (method === "update_model") metadata = { ...metadata, ...params };
    return true;
  });
  const [name, tags, range] = [...place.querySelectorAll("input")];
  const notes = place.querySelector("textarea");
  if (!name || !tags || !range || !notes) return expect.fail("fields are missing");
  type(notes, "mine");

  metadata = { official_name: "Phi 4 renamed", tags: ["reasoning", "maths"], notes: "theirs" };
  overrides = { version_ranges: { comfyui: "<0.9" } };
  tell("model.changed", { model_id: ID });
  await expect.poll(() => settle().then(() => name.value), { interval: 0 }).toBe("Phi 4 renamed");
  expect([tags.value, range.value, notes.value]).toEqual(["reasoning, maths", "<0.9", "mine"]);

  const save = async () => {
    act(() => place.querySelector("form")?.requestSubmit());
    await settle();
  };
  await save();
  expect(saved).toEqual([["update_model", { model_id: ID, notes: "mine" }]]);
  type(range, ">=1");
  await save();
  expect(saved.slice(1)).toEqual([
    ["update_model_overrides", { rel_path: ID, overrides: { version_ranges: { comfyui: ">=1" } } }],
  ]);
  expect(versionRanges(overrides)).toEqual({ comfyui: "<0.9" });
});

it("keeps what was typed while a person looks at something else", async () => {
  const answer = (method: string) =>
    method === "get_model"
      ? { success: true, metadata: { official_name: "Phi 4", notes: "old" }, overrides: {}, folder: "/phi" }
      : { success: true, apps: [] };
  const notes = (place: HTMLElement) => place.querySelector("textarea") ?? expect.fail("no field");
  const first = await shown(<Edit />, answer);
  type(notes(first.place), "not saved yet");
  act(() => first.leave());
  const again = await shown(<Edit />, answer);
  expect(notes(again.place).value).toBe("not saved yet");
});
