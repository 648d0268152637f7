// What was dropped onto the page or chosen for import. Any view may open the import with it.
import { useSyncExternalStore } from "react";

/** A file that a browser handed over has no path yet. */
export type Source = { path: string } | { file: File };

interface ImportState {
  open: boolean;
  sources: readonly Source[];
}

let state: ImportState = { open: false, sources: [] };
const watchers = new Set<() => void>();

export function openImport(sources: readonly Source[] = []): void {
  become({ open: true, sources: state.open ? [...state.sources, ...sources] : sources });
}

export function closeImport(): void {
  become({ open: false, sources: [] });
}

export function useImport(): ImportState {
  return useSyncExternalStore(
    (watcher) => {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
    () => state,
  );
}

/** Files with a path where the desktop shell knows it; folders exist only there. */
export function droppedSources(transfer: DataTransfer): Source[] {
  const bridge = window.pumas;
  return [...transfer.files].map((file) => {
    const path = bridge?.pathOf(file) ?? "";
    return path === "" ? { file } : { path };
  });
}

/** Whether a folder is among what was dropped: a browser gives no access to one by path. */
export function hasFolder(transfer: DataTransfer): boolean {
  return [...transfer.items].some((item) => item.webkitGetAsEntry()?.isDirectory ?? false);
}

function become(next: ImportState): void {
  state = next;
  for (const watcher of watchers) watcher();
}
