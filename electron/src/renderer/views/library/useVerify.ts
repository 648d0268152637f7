import { useCallback, useState } from "react";

import { useClient, useEvent } from "../../client/hooks";
import type { PumasEvent } from "../../client/types";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import { verdict } from "./verdict";

/** Hash a model's files again and say what came of it. */
export function useVerify() {
  const { t, heard } = useTexts();
  const client = useClient();
  const act = useAct();
  const [jobId, setJobId] = useState<string | null>(null);
  const [message, setMessage] = useState("");
  const [bad, setBad] = useState(false);

  const look = useCallback(
    (id: string) =>
      act(async () => {
        const { job } = await client.call("get_job", { job_id: id });
        if (job.state === "queued" || job.state === "running") return;
        setJobId(null);
        const found = verdict(job, t, heard);
        setBad(found.bad);
        setMessage(found.text);
      }),
    [act, client, t, heard],
  );
  const hear = useCallback(
    ({ data }: PumasEvent) => {
      if (jobId !== null && data.job_id === jobId) look(jobId);
    },
    [jobId, look],
  );
  useEvent("job.state", hear);
  const start = (modelId: string, name: string) =>
    act(async () => {
      setBad(false);
      setMessage(t("model.verify.started", { name }));
      const { job_id } = await client.change("verify_library", { model_ids: [modelId] });
      setJobId(job_id);
      look(job_id);
    });
  return { start, running: jobId !== null, message, bad };
}
