// Short messages about what just happened. They are read out, and go by themselves unless they ask for something.
import { useSyncExternalStore } from "react";

export interface Notice {
  id: number;
  tone: "good" | "bad";
  text: string;
  hint?: string | undefined;
  action?: { label: string; run: () => void } | undefined;
}

const GOOD_MS = 6_000;
const BAD_MS = 15_000;
const MOST = 4;

let shown: readonly Notice[] = [];
let next = 1;
const watchers = new Set<() => void>();

export function notify(notice: Omit<Notice, "id">): void {
  const id = next++;
  become([...shown, { ...notice, id }].slice(-MOST));
  setTimeout(() => dismiss(id), notice.tone === "bad" ? BAD_MS : GOOD_MS);
}

export function dismiss(id: number): void {
  become(shown.filter((notice) => notice.id !== id));
}

export function useNotices(): readonly Notice[] {
  return useSyncExternalStore(
    (watcher) => {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
    () => shown,
  );
}

function become(notices: readonly Notice[]): void {
  shown = notices;
  for (const watcher of watchers) watcher();
}
