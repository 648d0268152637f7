import { expect, it } from "vitest";

import { parseRoute, routeHash } from "./route";

it.each([
  ["", "library", ""],
  ["#/", "library", ""],
  ["#/nowhere/x", "library", ""],
  ["#/downloads", "downloads", ""],
  ["#/library/llm/llama/A%20B", "library", "llm/llama/A B"],
  ["#/library/100%/x", "library", "100%/x"],
  ["#code=abc", "library", ""],
])("reads %j", (hash, view, item) => {
  expect(parseRoute(hash)).toEqual({ view, item });
});

it.each(["", "llm/llama/A B", "llm/ü/模型", "a/b#c?d", "100%"])("writes what it reads: %j", (item) => {
  expect(parseRoute(routeHash({ view: "library", item }))).toEqual({ view: "library", item });
});
