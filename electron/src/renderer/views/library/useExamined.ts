// Turns sources into candidates, each source once: what a browser handed over is received first.
import { useEffect, useRef, useState } from "react";

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

export function useExamined(sources: readonly Source[]): Examined {
  const client = useClient();
  const act = useAct();
  const [candidates, setCandidates] = useState<readonly Candidate[]>([]);
  const [receiving, setReceiving] = useState<Receiving | null>(null);
  const [checking, setChecking] = useState(false);
  const placed = useRef(new Map<Source, Placed>());
  const batch = useRef(crypto.randomUUID().replaceAll("-", ""));
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
          const { name, size } = source.file;
          const report = (done: number) => setReceiving({ name, done, total: size });
          report(0);
          const path = await client.place(source.file, batch.current, report, over.signal);
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
