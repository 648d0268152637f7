// Running downloads as events tell of them: numbers go into the answer that is shown already, speeds into curves.
import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useReducer } from "react";

import type { DownloadStatus } from "@contract";
import { useEvent } from "../../client/hooks";
import type { Ok, PumasEvent } from "../../client/types";
import { History } from "../../lib/history";

const POINTS = 600;

const speeds = new Map<string, History>();
export const totalSpeed = new History(1, POINTS);
const latest = new Map<string, number>();

export function speedOf(downloadId: string): History {
  const known = speeds.get(downloadId) ?? new History(1, POINTS);
  speeds.set(downloadId, known);
  return known;
}

/** The answer with the numbers of one progress event in it. */
export function patched(
  answer: Ok<"list_model_downloads">,
  data: Readonly<Record<string, unknown>>,
): Ok<"list_model_downloads"> {
  const change = (one: DownloadStatus): DownloadStatus => {
    if (one.download_id !== data.download_id) return one;
    const total = Number(data.total_bytes);
    const downloaded = Number(data.downloaded_bytes);
    return {
      ...one,
      status: data.status as DownloadStatus["status"],
      downloaded_bytes: downloaded,
      total_bytes: total,
      progress: total > 0 ? downloaded / total : 0,
      speed: Number(data.speed),
      eta_seconds: typeof data.eta_seconds === "number" ? data.eta_seconds : null,
      message: typeof data.message === "string" ? data.message : "",
    };
  };
  return { ...answer, downloads: answer.downloads.map(change) };
}

/** Keep the list of downloads true while it is shown; the number grows with each event. */
export function useLiveDownloads(): number {
  const queries = useQueryClient();
  const [version, grow] = useReducer((n: number) => n + 1, 0);
  const hear = useCallback(
    ({ data }: PumasEvent) => {
      const id = String(data.download_id);
      const now = Date.now() / 1000;
      const speed = Number(data.speed);
      speedOf(id).add(now, [speed]);
      latest.set(id, data.status === "downloading" ? speed : 0);
      totalSpeed.add(now, [[...latest.values()].reduce((sum, one) => sum + one, 0)]);
      queries.setQueriesData<Ok<"list_model_downloads">>(
        { queryKey: ["list_model_downloads"] },
        (answer) => answer && patched(answer, data),
      );
      grow();
    },
    [queries],
  );
  useEvent("download.progress", hear);
  const forget = useCallback(({ data }: PumasEvent) => {
    if (data.kind !== "download" || data.state === "running") return;
    const id = String(data.job_id);
    latest.delete(id);
    if (data.state === "completed" || data.state === "cancelled") speeds.delete(id);
  }, []);
  useEvent("job.state", forget);
  return version;
}
