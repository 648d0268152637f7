import { expect, test } from "vitest";

import type { Connection } from "./connection";
import { type Downloads, type Finished, Jobs } from "./jobs";
import { textsFor } from "./texts";
import { downloadsLine, trayMenu } from "./tray";

function listening() {
  const jobs = new Jobs();
  const told: Downloads[] = [];
  const finished: Finished[] = [];
  jobs.on("downloads", (downloads) => told.push(downloads));
  jobs.on("finished", (job) => finished.push(job));
  const state = (job_id: string, kind: string, word: string, error: string | null = null) =>
    jobs.hear({
      type: "event",
      id: "1",
      topic: "job.state",
      data: { job_id, kind, title: `${kind} ${job_id}`, state: word, error },
    });
  const progress = (job_id: string, done: number, total: number) =>
    jobs.hear({ type: "event", id: "2", topic: "job.progress", data: { job_id, done, total } });
  return { jobs, told, finished, state, progress };
}

test("downloads are counted, and their progress is that of all their bytes", () => {
  const { told, state, progress } = listening();
  state("a", "download", "queued");
  state("a", "download", "running");
  expect(told.at(-1)).toEqual({ count: 1, progress: null });
  progress("a", 25, 100);
  state("b", "download", "running");
  progress("b", 0, 300);
  expect(told.at(-1)).toEqual({ count: 2, progress: 25 / 400 });
  progress("unknown", 1, 1);
  state("a", "download", "paused");
  expect(told.at(-1)).toEqual({ count: 1, progress: 0 });
  state("b", "download", "completed");
  expect(told.at(-1)).toEqual({ count: 0, progress: null });
});

test("ends of downloads and installations are told, of other work and of pauses not", () => {
  const { finished, state } = listening();
  state("a", "download", "completed");
  state("b", "install", "failed", "no space");
  state("c", "import", "completed");
  state("d", "download", "cancelled");
  state("e", "download", "paused");
  expect(finished).toEqual([
    { kind: "download", title: "download a", ok: true, error: null },
    { kind: "install", title: "install b", ok: false, error: "no space" },
  ]);
});

test("what was under way before is asked for", async () => {
  const { jobs, told } = listening();
  const asked: unknown[] = [];
  const connection = {
    call: (method: string, params: object) => {
      asked.push({ method, params });
      return Promise.resolve({ jobs: [{ job_id: "x", done: 50, total: 100 }] });
    },
  };
  await jobs.load(connection as unknown as Connection);
  expect(asked).toEqual([{ method: "list_jobs", params: { kind: "download", states: ["queued", "running"] } }]);
  expect(told).toEqual([{ count: 1, progress: 0.5 }]);
});

test("the tray says it in the person's language", () => {
  const [en, de] = [textsFor("en-GB"), textsFor("de-AT")];
  expect(downloadsLine(en, { count: 2, progress: 0.999 })).toBe("2 downloading, 99 %");
  expect(downloadsLine(de, { count: 2, progress: null })).toBe("2 im Download, 0 %");
  expect(downloadsLine(de, { count: 0, progress: null })).toBe("Keine Downloads");
  expect(textsFor("fr")).toBe(en);
  const nothing = () => undefined;
  const labels = trayMenu(de, { count: 0, progress: null }, { open: nothing, quit: nothing }).map(({ label }) => label);
  expect(labels).toEqual(["Pumas öffnen", undefined, "Keine Downloads", undefined, "Beenden"]);
});
