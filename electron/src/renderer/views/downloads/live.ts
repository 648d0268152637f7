// Running downloads as events tell of them: numbers go into the answer that is shown already, speeds into curves.
import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useSyncExternalStore } from "react";

import type { DownloadStatus } from "@contract";
import { useEvent } from "../../client/hooks";
import type { Ok, PumasEvent } from "../../client/types";
import { History } from "../../lib/history";

const POINTS = 600;

export const totalSpeed = new History(1, POINTS);
const latest = new Map<string, number>();

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

let version = 0;
const watchers = new Set<() => void>();

/** A number that grows with each event about a download. */
export function useDownloadVersion(): number {
  return useSyncExternalStore(
    (watcher) => {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
    () => version,
  );
}

/** Keep the list of downloads and their curves true. To be used once, for as long as the page is open. */
export function useFollowDownloads(): void {
  const queries = useQueryClient();
  const hear = useCallback(
    ({ data }: PumasEvent) => {
      const id = String(data.download_id);
      const now = Date.now() / 1000;
      latest.set(id, data.status === "downloading" ? Number(data.speed) : 0);
      totalSpeed.add(now, [[...latest.values()].reduce((sum, one) => sum + one, 0)]);
      queries.setQueriesData<Ok<"list_model_downloads">>(
        { queryKey: ["list_model_downloads"] },
        (answer) => answer && patched(answer, data),
      );
      version++;
      for (const watcher of watchers) watcher();
    },
    [queries],
  );
  useEvent("download.progress", hear);
  useEvent("job.state", forget);
}

function forget({ data }: PumasEvent): void {
  if (data.kind === "download" && data.state !== "running") latest.delete(String(data.job_id));
}
