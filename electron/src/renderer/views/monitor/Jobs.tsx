import { useQueryClient } from "@tanstack/react-query";
import { X } from "lucide-react";
import { useCallback } from "react";

import { useCall, useChange, useEvent } from "../../client/hooks";
import type { Ok, Params, PumasEvent } from "../../client/types";
import { Badge } from "../../parts/Badge";
import { Bar } from "../../parts/Bar";
import { Button } from "../../parts/Button";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";

const UNDER_WAY: Params<"list_jobs"> = { states: ["queued", "running", "paused"] };

/** All long work that has not ended. */
export function Jobs() {
  const { t } = useTexts();
  const act = useAct();
  const queries = useQueryClient();
  const answer = useCall("list_jobs", UNDER_WAY);
  const cancel = useChange("cancel_job");
  const hear = useCallback(
    ({ data }: PumasEvent) => {
      queries.setQueryData<Ok<"list_jobs">>(
        ["list_jobs", UNDER_WAY],
        (known) =>
          known && {
            ...known,
            jobs: known.jobs.map((job) =>
              job.job_id === data.job_id ? { ...job, ...(data as Partial<typeof job>) } : job,
            ),
          },
      );
    },
    [queries],
  );
  useEvent("job.progress", hear);
  const jobs = answer.data?.jobs ?? [];
  return (
    <section className={parts.card} aria-label={t("monitor.jobs")}>
      <h2>{t("monitor.jobs")}</h2>
      {jobs.length === 0 && <p className={parts.hint}>{t("monitor.jobs.none")}</p>}
      {jobs.map((job) => (
        <div key={job.job_id} className={parts.field}>
          <div className={view.spread}>
            <span>
              {job.title} <span className={parts.hint}>{job.item}</span>
            </span>
            <Badge>{t(`monitor.job.${job.state}`)}</Badge>
            <Button
              look="quiet"
              icon={<X aria-hidden />}
              aria-label={`${t("common.cancel")}: ${job.title}`}
              onClick={() => act(() => cancel.mutateAsync({ job_id: job.job_id }))}
            />
          </div>
          <Bar value={job.progress} label={job.title} />
        </div>
      ))}
    </section>
  );
}
