import { expect, it } from "vitest";

import type { HubOption } from "@contract";
import { optionName, wishOf } from "./option";

const option = (kind: HubOption["kind"], quant: string | null, ...weights: string[]): HubOption => ({
  kind,
  quant,
  weights,
  file_count: weights.length,
  size_bytes: 1,
  fits: true,
});

it.each([
  [option("quant", "q4_k_m", "m-Q4_K_M.gguf"), { quant: "q4_k_m" }, "Q4_K_M"],
  [option("all", null, "m-Q4_K_M.gguf", "m-Q8_0.gguf"), {}, "discover.option.all"],
  [option("file", "q4_0", "m-qat-Q4_0.gguf"), { filenames: ["m-qat-Q4_0.gguf"] }, "m-qat-Q4_0.gguf"],
  [
    option("projector", "f16", "mmproj-F16.gguf"),
    { filenames: ["mmproj-F16.gguf"] },
    "discover.option.projector mmproj-F16.gguf",
  ],
])("%j is asked for by %j", (given, wish, name) => {
  expect(wishOf(given)).toEqual(wish);
  expect(optionName(given, (key) => key)).toBe(name);
});
