import { useCallback, useState } from "react";

import type { ImportItem } from "@contract";
import { useClient, useEvent } from "../../client/hooks";
import type { PumasEvent } from "../../client/types";
import { useAct } from "../../parts/useAct";

const GOING = new Set(["queued", "running"]);

/** Follow one import to its end. `ended` holds what became of each item. */
export function useImportJob() {
  const client = useClient();
  const act = useAct();
  const [jobId, setJobId] = useState<string | null>(null);
  const [progress, setProgress] = useState(0);
  const [item, setItem] = useState("");
  const [ended, setEnded] = useState<readonly ImportItem[] | null>(null);

  const look = useCallback(
    (id: string) =>
      act(async () => {
        const { job } = await client.call("get_job", { job_id: id });
        if (GOING.has(job.state)) return;
        const results = (job.result?.results ?? []) as ImportItem[];
        setEnded(results.length > 0 ? results : [{ path: job.title, success: false, error: job.error ?? job.state }]);
        setJobId(null);
      }),
    [act, client],
  );
  const hear = useCallback(
    ({ topic, data }: PumasEvent) => {
      if (data.job_id !== jobId || jobId === null) return;
      if (topic === "job.state") look(jobId);
      else {
        setProgress(Number(data.progress));
        setItem(String(data.item));
      }
    },
    [jobId, look],
  );
  useEvent("job.", hear);
  const follow = useCallback(
    (id: string) => {
      setJobId(id);
      look(id); // it may have ended before anybody listened
    },
    [look],
  );
  return { follow, running: jobId !== null, progress, item, ended };
}
