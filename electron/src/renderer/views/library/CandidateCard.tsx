import { X } from "lucide-react";

import { Badge } from "../../parts/Badge";
import { Button } from "../../parts/Button";
import { Field } from "../../parts/Field";
import { Caution } from "../../parts/Problem";
import { Toggle } from "../../parts/Toggle";
import parts from "../../parts/parts.module.css";
import { useTexts } from "../../texts/texts";
import css from "./Library.module.css";
import { isReady, obstacle, type Candidate } from "./candidates";

interface Props {
  candidate: Candidate;
  /** null: leave it out. */
  onChange: (changes: Partial<Candidate> | null) => void;
}

const TONES = { ready: "good", asks: "warn", refused: "bad" } as const;

export function CandidateCard({ candidate, onChange }: Props) {
  const { t, formats, find, heard } = useTexts();
  const { outcome, shards } = candidate;
  // What lies beside a part that was named comes along, so that only the dry run knows whether any is missing.
  const wall = obstacle(candidate);
  const ready = isReady(candidate);
  const state = ready ? "ready" : wall === "refused" ? "refused" : "asks";
  const fileName = candidate.path.split(/[/\\]/).at(-1) ?? candidate.path;
  return (
    <article className={css.candidate} aria-label={fileName}>
      <div className={css.candidateHead}>
        <strong title={candidate.path}>{fileName}</strong>
        {shards && wall !== "refused" && (
          <Badge>{t("import.shards", { count: shards.validation.total_expected })}</Badge>
        )}
        {outcome.size != null && outcome.size > 0 && <Badge>{formats.bytes(outcome.size)}</Badge>}
        <Badge tone={TONES[state]}>{t(`import.state.${state}`)}</Badge>
        <Button look="quiet" icon={<X aria-hidden />} aria-label={t("import.remove")} onClick={() => onChange(null)} />
      </div>
      {outcome.model_id && <code className={parts.hint}>{outcome.model_id}</code>}
      {wall === "pickle" && (
        <Caution>
          <span>{t("import.pickle")}</span>
          {(outcome.security_findings ?? []).length > 0 && (
            <span>{t("import.pickle.findings", { findings: outcome.security_findings?.join(", ") ?? "" })}</span>
          )}
          <Toggle
            label={t("import.pickle.allow")}
            checked={candidate.trusted}
            onChange={(trusted) => onChange({ trusted })}
          />
        </Caution>
      )}
      {wall === "duplicate" && (
        <Caution>
          <span>{t("import.duplicate", { model: outcome.duplicate_of ?? "" })}</span>
          <Toggle
            label={t("import.duplicate.allow")}
            checked={candidate.again}
            onChange={(again) => onChange({ again })}
          />
        </Caution>
      )}
      {wall === "refused" && (
        <Caution>
          <span>{heard(outcome.error ?? "")}</span>
          <span>{find(`error.${outcome.error_code ?? ""}`)}</span>
        </Caution>
      )}
      {outcome.warnings?.map((warning) => (
        <p key={warning} className={parts.hint}>
          {heard(warning)}
        </p>
      ))}
      {ready && (
        <Field label={t("import.name")}>
          {(id) => (
            <input
              id={id}
              className={parts.input}
              value={candidate.name}
              placeholder={outcome.model_id?.split("/").at(-1) ?? fileName}
              onChange={(event) => onChange({ name: event.target.value })}
            />
          )}
        </Field>
      )}
    </article>
  );
}
