import { expect, it } from "vitest";

import { shown } from "../../testing/shown";
import { CandidateCard } from "./CandidateCard";
import type { Candidate } from "./candidates";

function firstOfTwo(outcome: Partial<Candidate["outcome"]>): Candidate {
  const path = "/models/b-00001-of-00002.gguf";
  const validation = { complete: false, missing_shards: [2], total_expected: 2, total_found: 1, error: "" };
  return {
    path,
    received: false,
    shards: { files: [path], validation },
    outcome: { path, success: true, ...outcome },
    name: "",
    modelType: "",
    trusted: false,
    again: false,
  };
}

it.each([
  ["misses nothing when the other parts lie beside the one that was named", {}, "2 parts", "missing"],
  [
    "says once which part is missing when it is not there",
    { success: false, error: "b: 1 of 2 parts are missing (number 2); nothing was imported." },
    "1 of 2 parts are missing (number 2)",
    "1 of 2 parts are there",
  ],
])("%s", async (_, outcome, said, unsaid) => {
  const { place } = await shown(
    <CandidateCard candidate={firstOfTwo(outcome)} onChange={() => undefined} />,
    () => ({}),
  );
  expect(place.textContent).toContain(said);
  expect(place.textContent).not.toContain(unsaid);
});
