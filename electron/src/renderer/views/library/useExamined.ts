// Turns sources into candidates, each source once: what a browser handed over is received first.
import { useEffect, useRef, useState } from "react";

import { CallError } from "../../client/errors";
import { useClient } from "../../client/hooks";
import { useAct } from "../../parts/useAct";
import { examine, type Candidate, type Placed } from "./candidates";
import type { Source } from "./dropped";

interface Receiving {
  name: string;
  done: number;
  total: number;
}

export interface Examined {
  candidates: readonly Candidate[];
  receiving: Receiving | null;
  checking: boolean;
}

function newBatch(): string {
  return crypto.randomUUID().replaceAll("-", "");
}

/** Hands a folder over file by file, by itself: two folders of one name are two. Answers where it lies. */
async function placeFolder(
  { folder, files }: { folder: string; files: ReadonlyMap<string, File> },
  place: (file: File, name: string, batch: string) => Promise<string>,
): Promise<string> {
  const batch = newBatch();
  let path = "";
  for (const [below, file] of files) {
    const placed = await place(file, `${folder}/${below}`, batch);
    path = placed.slice(0, -below.length - 1);
  }
  if (path === "") throw new CallError("not_a_model", `${folder} is empty.`);
  return path;
}

export function useExamined(sources: readonly Source[]): Examined {
  const client = useClient();
  const act = useAct();
  const [candidates, setCandidates] = useState<readonly Candidate[]>([]);
  const [receiving, setReceiving] = useState<Receiving | null>(null);
  const [checking, setChecking] = useState(false);
  const placed = useRef(new Map<Source, Placed>());
  const batch = useRef(newBatch());
  useEffect(() => {
    if (sources.length === 0) return;
    const over = new AbortController();
    act(async () => {
      try {
        for (const source of sources) {
          if (placed.current.has(source)) continue;
          if ("path" in source) {
            placed.current.set(source, { path: source.path, received: false });
            continue;
          }
          const place = (file: File, name: string, batch: string) => {
            const report = (done: number) => setReceiving({ name, done, total: file.size });
            report(0);
            return client.place(file, name, batch, report, over.signal);
          };
          const path =
            "file" in source
              ? await place(source.file, source.file.name, batch.current)
              : await placeFolder(source, place);
          placed.current.set(source, { path, received: true });
        }
        setReceiving(null);
        setChecking(true);
        const found = await examine(client, [...placed.current.values()]);
        if (!over.signal.aborted) setCandidates(found);
      } catch (error) {
        if (!over.signal.aborted) throw error;
      } finally {
        setReceiving(null);
        setChecking(false);
      }
    });
    return () => over.abort();
  }, [sources, client, act]);
  return { candidates, receiving, checking };
}
