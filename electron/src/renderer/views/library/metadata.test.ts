import { expect, it } from "vitest";

import { parseTags, readMetadata, versionRanges } from "./metadata";

it("reads what the sidecar writes", () => {
  const facts = readMetadata(
    {
      official_name: "Harbor 7B",
      model_type: "diffusion",
      subtype: "checkpoints",
      tags: ["chat"],
      base_model: ["a/b", "c/d"],
      download_url: "https://huggingface.co/example-org/Harbor-7B",
      storage: "hardlink",
      size_bytes: 24,
      files: [
        { name: "a.safetensors", size: 24, sha256: "ab" },
        { name: "b.json", claimed_sha256: "cd" },
      ],
      model_card: { license: "mit" },
    },
    "diffusion/harbor/Harbor7B",
  );
  expect(facts).toMatchObject({
    name: "Harbor 7B",
    type: "diffusion / checkpoints",
    base: "a/b, c/d",
    repo: "example-org/Harbor-7B",
    storage: "hardlink",
    license: "mit",
    security: "safe",
    size: 24,
    files: [
      { name: "a.safetensors", size: 24, sha256: "ab", claimed: "" },
      { name: "b.json", size: null, sha256: "", claimed: "cd" },
    ],
  });
});

it.each([
  [{}],
  [{ tags: "one", files: "none", base_model: { a: 1 }, size_bytes: -1, model_card: null, storage: "elsewhere" }],
  [{ official_name: 7, files: [null, 3, {}], tags: [1, null, ""], download_url: "javascript:alert(1)" }],
])("survives %j", (metadata) => {
  const facts = readMetadata(metadata, "llm/x/Name");
  expect([facts.name, facts.link, facts.storage, facts.size]).toEqual(["Name", "", "owned", null]);
});

it.each([
  ["a, b ,a,, c", ["a", "b", "c"]],
  ["", []],
  [" , ", []],
])("tags of %j", (line, tags) => {
  expect(parseTags(line)).toEqual(tags);
});

it("takes only ranges that are text", () => {
  expect(versionRanges({ version_ranges: { comfyui: ">=1", other: null, bad: 3 } })).toEqual({ comfyui: ">=1" });
  expect(versionRanges({})).toEqual({});
});
