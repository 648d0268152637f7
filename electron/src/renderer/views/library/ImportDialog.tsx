import { useState } from "react";

import { useClient } from "../../client/hooks";
import { Bar } from "../../parts/Bar";
import { Button } from "../../parts/Button";
import { Dialog } from "../../parts/Dialog";
import { Field } from "../../parts/Field";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import { AddSources } from "./AddSources";
import { CandidateCard } from "./CandidateCard";
import { edited, importSpec, isReady, type Candidate, type Mode } from "./candidates";
import { closeImport, type Source } from "./dropped";
import { useExamined } from "./useExamined";
import { useImportJob } from "./useImportJob";

const MODES: readonly Mode[] = ["copy", "hardlink", "move"];

export default function ImportDialog({ sources, onClose }: { sources: readonly Source[]; onClose: () => void }) {
  const { t, formats } = useTexts();
  const client = useClient();
  const act = useAct();
  const [mode, setMode] = useState<Mode>("copy");
  const examined = useExamined(sources);
  const [edits, setEdits] = useState<Readonly<Record<string, Partial<Candidate> | null>>>({});
  const candidates = edited(examined.candidates, edits);
  const job = useImportJob();
  const ready = candidates.filter(isReady);
  const change = (path: string, changes: Partial<Candidate> | null) =>
    setEdits((known) => ({ ...known, [path]: changes && { ...known[path], ...changes } }));
  const start = () =>
    act(async () => {
      const import_specs = ready.map((candidate) => importSpec(candidate, mode));
      const { job_id } = await client.change("import_batch", { import_specs, wait_seconds: 0 });
      if (job_id) job.follow(job_id);
      else closeImport();
    });
  return (
    <Dialog
      title={t("import.title")}
      onClose={onClose}
      foot={
        <>
          <Button onClick={onClose}>{t(job.running || job.ended ? "common.close" : "common.cancel")}</Button>
          {!job.ended && (
            <Button look="primary" disabled={ready.length === 0 || job.running} onClick={start}>
              {t("import.start", { count: ready.length })}
            </Button>
          )}
        </>
      }
    >
      {!job.running && !job.ended && <AddSources />}
      {examined.receiving && (
        <>
          <p role="status">
            {t("import.uploading", {
              name: examined.receiving.name,
              done: formats.bytes(examined.receiving.done),
              total: formats.bytes(examined.receiving.total),
            })}
          </p>
          <Bar
            value={examined.receiving.done / Math.max(1, examined.receiving.total)}
            label={examined.receiving.name}
          />
        </>
      )}
      {examined.checking && <p role="status">{t("import.checking")}</p>}
      {job.running && (
        <>
          <p role="status">{t("import.running", { item: job.item })}</p>
          <Bar value={job.progress} label={t("import.title")} />
        </>
      )}
      {job.ended && <Outcome results={job.ended} />}
      {!job.running && !job.ended && (
        <>
          {candidates.length === 0 && !examined.checking && !examined.receiving && (
            <p className={parts.hint}>{t("import.nothing")}</p>
          )}
          {candidates.map((candidate) => (
            <CandidateCard
              key={candidate.path}
              candidate={candidate}
              onChange={(changes) => change(candidate.path, changes)}
            />
          ))}
          {candidates.some((candidate) => !candidate.received) && (
            <Field label={t("import.mode")}>
              {(id) => (
                <select id={id} className={parts.input} value={mode} onChange={(e) => setMode(e.target.value as Mode)}>
                  {MODES.map((one) => (
                    <option key={one} value={one}>
                      {t(`import.mode.${one}`)}
                    </option>
                  ))}
                </select>
              )}
            </Field>
          )}
        </>
      )}
    </Dialog>
  );
}

function Outcome({ results }: { results: readonly { path: string; success: boolean; error?: string | null }[] }) {
  const { t, heard } = useTexts();
  const failed = results.filter((result) => !result.success);
  return (
    <div role="status" className={parts.field}>
      <p>{t("import.done", { count: results.length - failed.length })}</p>
      {failed.length > 0 && <p className={parts.danger}>{t("import.failed", { count: failed.length })}</p>}
      <ul className={parts.list}>
        {failed.map(({ path, error }) => (
          <li key={path}>
            <code>{path}</code> {heard(error ?? "")}
          </li>
        ))}
      </ul>
    </div>
  );
}
