import { keepPreviousData } from "@tanstack/react-query";
import { Link2 } from "lucide-react";
import { useState } from "react";

import type { AppInfo, MapAction } from "@contract";
import { useCall, useChange } from "../../client/hooks";
import { Badge } from "../../parts/Badge";
import { Button } from "../../parts/Button";
import { Empty } from "../../parts/Empty";
import { Field } from "../../parts/Field";
import { Caution, Problem } from "../../parts/Problem";
import { Toggle } from "../../parts/Toggle";
import { notify } from "../../parts/notices";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";

const CHOICES = ["skip", "rename", "overwrite"] as const;
type Choice = (typeof CHOICES)[number];

/** Which of the library's models a version finds, what would be done about the others, and what is in the way. */
export function AppLinks({ app }: { app: AppInfo }) {
  const { t } = useTexts();
  const [chosen, setChosen] = useState<string | null>(null);
  const tag = chosen ?? app.active ?? app.installed[0];
  if (tag === undefined) return <Empty icon={<Link2 aria-hidden />} title={t("apps.links.none")} />;
  return (
    <div className={view.stack} style={{ paddingTop: 14 }}>
      <Field label={t("apps.links.version")}>
        {(id) => (
          <select id={id} className={parts.input} value={tag} onChange={(event) => setChosen(event.target.value)}>
            {app.installed.map((one) => (
              <option key={one}>{one}</option>
            ))}
          </select>
        )}
      </Field>
      <Plan key={`${app.app_id} ${tag}`} appId={app.app_id} tag={tag} />
    </div>
  );
}

function Plan({ appId, tag }: { appId: string; tag: string }) {
  const { t, formats, heard } = useTexts();
  const act = useAct();
  const [allowCopy, setAllowCopy] = useState(false);
  const [replaceLink, setReplaceLink] = useState(false);
  const [choices, setChoices] = useState<Readonly<Record<string, Choice>>>({});
  const answer = useCall(
    "preview_model_mapping",
    { version_tag: tag, app_id: appId, allow_copy: allowCopy, replace_models_link: replaceLink },
    // What is shown stays while another wish is planned: whoever has just switched it is still there.
    { gcTime: 0, placeholderData: keepPreviousData },
  );
  const apply = useChange("sync_with_resolutions");
  const plan = answer.data;
  if (answer.isError) return <Problem error={answer.error} />;
  if (plan === undefined) return <p role="status">{t("common.loading")}</p>;
  const resolutions = Object.fromEntries(plan.conflicts.map(({ model_id }) => [model_id, choices[model_id] ?? "skip"]));
  const todo = plan.to_create.length + plan.broken_to_remove.length;
  const resolved = Object.values(resolutions).filter((choice) => choice !== "skip").length;
  const start = () =>
    act(async () => {
      const done = await apply.mutateAsync({
        version_tag: tag,
        app_id: appId,
        allow_copy: allowCopy,
        replace_models_link: replaceLink,
        plan_id: plan.plan_id,
        resolutions,
      });
      const moved = done.backups.map(({ backup_path }) => backup_path);
      notify({
        tone: "good",
        text: t("apps.links.done", { count: done.links_created }),
        hint: moved.length > 0 ? t("apps.links.backups", { paths: moved.join(", ") }) : undefined,
      });
    });
  return (
    <>
      <div className={view.spread}>
        <p className={parts.row}>
          <span>
            {todo + plan.conflicts.length === 0
              ? t("apps.links.up_to_date")
              : t("apps.links.summary", { count: plan.to_create.length })}
          </span>
          {plan.to_skip_exists.length === 0 && <Badge>{t("apps.links.in_place", { count: 0 })}</Badge>}
          {plan.broken_to_remove.length > 0 && (
            <Badge tone="warn">{t("apps.links.broken", { count: plan.broken_to_remove.length })}</Badge>
          )}
        </p>
        <Button
          look="primary"
          icon={<Link2 aria-hidden />}
          disabled={(todo === 0 && resolved === 0) || apply.isPending || answer.isPlaceholderData}
          onClick={start}
        >
          {t("apps.links.apply")}
        </Button>
      </div>
      {plan.needs_copy.length > 0 && (
        <Caution>
          {t("apps.links.copy", { count: plan.needs_copy.length, size: formats.bytes(plan.copy_bytes) })}
          <Toggle label={t("apps.links.copy.allow")} checked={allowCopy} onChange={setAllowCopy} />
        </Caution>
      )}
      {plan.models_link !== null && (
        <Caution>
          {t("apps.links.folder", { path: plan.models_link })}
          <Toggle label={t("apps.links.folder.replace")} checked={replaceLink} onChange={setReplaceLink} />
        </Caution>
      )}
      {[...plan.warnings, ...plan.errors].map((line) => (
        <Caution key={line}>{heard(line)}</Caution>
      ))}
      {plan.conflicts.length > 0 && (
        <section className={view.stack} aria-label={t("apps.links.conflicts")}>
          <h3>{t("apps.links.conflicts")}</h3>
          {plan.conflicts.map((conflict) => (
            <div key={conflict.target_path} className={parts.card}>
              <div className={view.spread}>
                <div className={parts.field}>
                  <strong>{conflict.model_name}</strong>
                  <code className={parts.hint}>{conflict.target_path}</code>
                  <span className={parts.hint}>{heard(conflict.reason)}</span>
                </div>
                <select
                  className={parts.input}
                  style={{ width: 240 }}
                  aria-label={`${t("apps.links.conflicts")}: ${conflict.model_name}`}
                  value={choices[conflict.model_id] ?? "skip"}
                  onChange={(event) => setChoices({ ...choices, [conflict.model_id]: event.target.value as Choice })}
                >
                  {CHOICES.map((choice) => (
                    <option key={choice} value={choice}>
                      {t(`apps.links.conflict.${choice}`)}
                    </option>
                  ))}
                </select>
              </div>
            </div>
          ))}
        </section>
      )}
      <Links actions={plan.to_create} />
      {plan.to_skip_exists.length > 0 && (
        <details>
          <summary>{t("apps.links.in_place", { count: plan.to_skip_exists.length })}</summary>
          <Links actions={plan.to_skip_exists} />
        </details>
      )}
    </>
  );
}

const SHOWN = 200;

function Links({ actions }: { actions: readonly MapAction[] }) {
  return (
    <ul className={parts.list}>
      {actions.slice(0, SHOWN).map((action) => (
        <li key={action.target_path} className={parts.field} style={{ paddingBlock: 6 }}>
          <span>
            {action.model_name} {action.link_type && <Badge>{action.link_type}</Badge>}
          </span>
          <code className={parts.hint}>{action.target_path}</code>
        </li>
      ))}
    </ul>
  );
}
