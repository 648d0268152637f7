import { expect, it } from "vitest";

import type { ImportItem, ShardGroup } from "@contract";
import type { Client } from "../../client/client";
import { edited, examine, firstOfEach, importSpec, isReady, obstacle, type Candidate } from "./candidates";

function group(files: string[], expected = files.length): ShardGroup {
  const validation = {
    complete: files.length === expected,
    missing_shards: [],
    total_expected: expected,
    total_found: files.length,
    error: "",
  };
  return { files, validation };
}

function candidate(outcome: Partial<ImportItem> = {}, changes: Partial<Candidate> = {}): Candidate {
  return {
    path: "/a.gguf",
    received: false,
    shards: null,
    outcome: { path: "/a.gguf", success: true, ...outcome },
    name: "",
    modelType: "",
    trusted: false,
    again: false,
    ...changes,
  };
}

it("makes one item of a set of shards, whatever else was dropped", () => {
  const placed = ["/x/b-1.gguf", "/x/a.gguf", "/x/b-2.gguf"].map((path) => ({ path, received: false }));
  const shards = group(["/x/b-1.gguf", "/x/b-2.gguf"]);
  const items = firstOfEach(placed, { b: shards, a: group(["/x/a.gguf"]) });
  expect(items.map((item) => [item.path, item.shards])).toEqual([
    ["/x/b-1.gguf", shards],
    ["/x/a.gguf", null],
  ]);
});

it("knows a part of a set that is not complete", () => {
  const lonely = group(["/x/b-1.gguf"], 3);
  expect(firstOfEach([{ path: "/x/b-1.gguf", received: true }], { b: lonely })[0]?.shards).toBe(lonely);
});

it.each([
  [candidate(), null, true],
  [candidate({ success: false, error_code: "pickle_not_acknowledged" }), "pickle", false],
  [candidate({ success: false, error_code: "pickle_not_acknowledged" }, { trusted: true }), "pickle", true],
  [candidate({ success: false, error_code: "duplicate_model" }, { trusted: true }), "duplicate", false],
  [candidate({ success: false, error_code: "duplicate_model" }, { again: true }), "duplicate", true],
  [candidate({ success: false, error_code: "not_a_model" }, { trusted: true, again: true }), "refused", false],
] as const)("%# what stands in the way", (one, wall, ready) => {
  expect([obstacle(one), isReady(one)]).toEqual([wall, ready]);
});

it("leaves the user's originals unless told otherwise, and moves what a browser handed over", () => {
  expect(importSpec(candidate(), "copy").mode).toBe("copy");
  expect(importSpec(candidate({}, { received: true }), "copy").mode).toBe("move");
  expect(importSpec(candidate({}, { name: "Mine", trusted: true }), "hardlink")).toEqual({
    path: "/a.gguf",
    mode: "hardlink",
    official_name: "Mine",
    security_acknowledged: true,
    allow_duplicate: false,
  });
});

it("keeps what a person changed when further files are examined", () => {
  const others = [candidate({}, { path: "/a.gguf" }), candidate({}, { path: "/b.gguf" })];
  const after = edited(others, { "/a.gguf": { name: "Mine" }, "/b.gguf": null });
  expect(after.map(({ path, name }) => [path, name])).toEqual([["/a.gguf", "Mine"]]);
});

it("takes a folder of several models for each of them, once", async () => {
  const several = { success: false, error_code: "several_models", candidates: ["/f/a.gguf", "/f/b"] };
  const asked: string[][] = [];
  const call = (method: string, params: { import_specs: { path: string }[] }) => {
    if (method === "detect_sharded_sets") return Promise.resolve({ groups: {} });
    asked.push(params.import_specs.map(({ path }) => path));
    return Promise.resolve({
      results: params.import_specs.map(({ path }) => ({ path, success: true, ...(path === "/f" && several) })),
    });
  };
  const placed = ["/f", "/f/a.gguf"].map((path) => ({ path, received: path === "/f" }));
  const found = await examine({ call } as unknown as Client, placed);
  expect(found.map(({ path, received }) => [path, received])).toEqual([
    ["/f/a.gguf", false],
    ["/f/b", true],
  ]);
  expect(asked).toEqual([["/f", "/f/a.gguf"], ["/f/b"]]);
});
