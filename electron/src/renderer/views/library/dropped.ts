// What was dropped onto the page or chosen for import. Any view may open the import with it.
import { useSyncExternalStore } from "react";

import { CallError } from "../../client/errors";

/** What a browser handed over has no path yet: a file, or a folder with the files in it by their place below it. */
export type Source = { path: string } | { file: File } | { folder: string; files: ReadonlyMap<string, File> };

/** A folder of a model has some dozens of files; one with more than this is something else. */
const MOST_FILES = 2000;
/** What file managers and version control leave beside the files that count. */
const ASIDE = /^\.|^(?:desktop\.ini|thumbs\.db)$/i;

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

/** By path where the desktop shell knows it; a browser gives files, and what is in folders when it is asked for. */
export async function droppedSources(transfer: DataTransfer): Promise<Source[]> {
  const bridge = window.pumas;
  // Before anything is waited for: the browser empties what was dropped once the event is over.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry());
  const files = [...transfer.files];
  if (bridge !== undefined) {
    return files.map((file) => {
      const path = bridge.pathOf(file);
      return path === "" ? { file } : { path };
    });
  }
  const folders = entries.filter((entry) => entry !== null && isFolder(entry));
  const names = new Set(folders.map(({ name }) => name));
  const loose = files.filter(({ name }) => !names.has(name)).map((file) => ({ file }));
  return [...loose, ...(await Promise.all(folders.map(folderSource)))];
}

/** A folder that was chosen in the browser's own dialog. */
export function chosenFolder(files: readonly File[]): Source[] {
  const name = files[0]?.webkitRelativePath.split("/")[0];
  if (name === undefined) return [];
  const below = new Map(files.map((file) => [file.webkitRelativePath.slice(name.length + 1), file]));
  const kept = [...below].filter(([path]) => !path.split("/").some((part) => ASIDE.test(part)));
  if (kept.length > MOST_FILES) throw tooMany(name);
  return [{ folder: name, files: new Map(kept) }];
}

async function folderSource(folder: FileSystemDirectoryEntry): Promise<Source> {
  const files = new Map<string, File>();
  await collect(folder, "", files);
  return { folder: folder.name, files };
}

async function collect(folder: FileSystemDirectoryEntry, below: string, files: Map<string, File>): Promise<void> {
  const reader = folder.createReader();
  const read = () => new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
  // A browser gives a hundred entries at a time, and none at the end.
  for (let entries = await read(); entries.length > 0; entries = await read()) {
    for (const entry of entries.filter(({ name }) => !ASIDE.test(name))) {
      if (isFolder(entry)) await collect(entry, `${below}${entry.name}/`, files);
      else if (isFile(entry)) {
        const file = await new Promise<File>((resolve, reject) => entry.file(resolve, reject));
        files.set(`${below}${entry.name}`, file);
      }
      if (files.size > MOST_FILES) throw tooMany(folder.name);
    }
  }
}

function tooMany(name: string): CallError {
  return new CallError("several_models", `${name}: > ${MOST_FILES}`);
}

function isFolder(entry: FileSystemEntry): entry is FileSystemDirectoryEntry {
  return entry.isDirectory;
}

function isFile(entry: FileSystemEntry): entry is FileSystemFileEntry {
  return entry.isFile;
}

function become(next: ImportState): void {
  state = next;
  for (const watcher of watchers) watcher();
}
