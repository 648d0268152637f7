import { expect, it } from "vitest";

import type { DownloadStatus } from "@contract";
import { limitAt, NO_LIMIT, stepOf } from "./limits";
import { patched } from "./live";

const DOWNLOAD: DownloadStatus = {
  download_id: "a",
  repo_id: "o/n",
  revision: "c",
  title: "n",
  quant: "",
  status: "queued",
  progress: 0,
  downloaded_bytes: 0,
  total_bytes: 100,
  speed: 0,
  eta_seconds: null,
  error: "",
  error_code: "",
  message: "",
  restarts: 0,
  retries: 0,
  place: 1,
  model_id: null,
  model_path: null,
  warnings: [],
  created_at: "",
  finished_at: null,
};

it("puts the numbers of an event into the download that it is about, and into no other", () => {
  const answer = { success: true as const, downloads: [DOWNLOAD, { ...DOWNLOAD, download_id: "b" }] };
  const event = {
    download_id: "b",
    status: "downloading",
    downloaded_bytes: 25,
    total_bytes: 100,
    speed: 5,
    eta_seconds: 15,
  };
  const after = patched(answer, event).downloads;
  expect(after[0]).toBe(DOWNLOAD);
  expect(after[1]).toMatchObject({ status: "downloading", progress: 0.25, speed: 5, eta_seconds: 15, message: "" });
});

it("has a step for every limit, and its own steps stay where they are", () => {
  for (let step = 0; step <= NO_LIMIT; step++) expect(stepOf(limitAt(step))).toBe(step);
  expect(stepOf(1)).toBe(0);
  expect(stepOf(10 ** 12)).toBe(NO_LIMIT - 1);
});
