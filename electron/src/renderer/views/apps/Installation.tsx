import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useRef } from "react";

import type { AppInfo, InstallationProgress } from "@contract";
import { useCall, useChange, useEvent } from "../../client/hooks";
import type { PumasEvent } from "../../client/types";
import { Bar } from "../../parts/Bar";
import { Button } from "../../parts/Button";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";

const STAGES = ["download", "extract", "venv", "dependencies", "setup"] as const;

/** An installation that a person asked for here, and the button with which they did. */
export interface AskedFor {
  tag: string;
  by: Element;
}

/** The installation that runs, or how the last one of this run of the sidecar ended. */
export function Installation({ app, asked }: { app: AppInfo; asked: AskedFor | null }) {
  const { t, formats, heard } = useTexts();
  const act = useAct();
  const queries = useQueryClient();
  const params = { app_id: app.app_id };
  const answer = useCall("get_installation_progress", params);
  const cancel = useChange("cancel_installation");
  const hear = useCallback(
    ({ data }: PumasEvent) => {
      if (data.app_id !== app.app_id) return;
      const key = ["get_installation_progress", { app_id: app.app_id }];
      const known = queries.getQueryData<InstallationProgress | null>(key);
      const over = data.completed_at != null;
      if (known && known.tag === data.tag && !over) queries.setQueryData(key, { ...known, ...data });
      else void queries.invalidateQueries({ queryKey: key });
    },
    [queries, app.app_id],
  );
  useEvent("install.progress", hear);
  const now = answer.data;
  // The button that was pressed goes away with its version's row when that is installed. Whoever is still at it goes to
  // where the installation is shown, and is there when it ends; whoever went on is left where they are.
  const place = useRef<HTMLElement>(null);
  const tag = now?.tag;
  useEffect(() => {
    if (asked === null || asked.tag !== tag) return;
    const at = document.activeElement;
    if (at === asked.by || at === document.body) place.current?.focus();
  }, [asked, tag]);
  if (!now) return null;
  if (now.completed_at) {
    if (now.error === "cancel") return null;
    return (
      <section ref={place} tabIndex={-1} aria-label={t("apps.installation")}>
        <p className={now.success ? parts.hint : parts.danger} role="status">
          {now.success
            ? t("apps.install.done", { tag: now.tag })
            : t("apps.install.failed", { tag: now.tag, error: heard(now.error ?? "") })}
        </p>
      </section>
    );
  }
  return (
    <section ref={place} tabIndex={-1} className={parts.card} aria-label={t("apps.installing", { tag: now.tag })}>
      <div className={view.spread}>
        <h3>{t("apps.installing", { tag: now.tag })}</h3>
        <Button look="danger" onClick={() => act(() => cancel.mutateAsync(params))}>
          {t("apps.install.cancel")}
        </Button>
      </div>
      <Bar value={now.overall_progress / 100} label={t("apps.installing", { tag: now.tag })} />
      <ol className={parts.row} style={{ margin: 0, paddingInlineStart: 18 }}>
        {STAGES.map((stage) => (
          <li key={stage} aria-current={stage === now.stage ? "step" : undefined} style={{ marginInlineEnd: 20 }}>
            {stage === now.stage ? <strong>{t(`apps.stage.${stage}`)}</strong> : t(`apps.stage.${stage}`)}
          </li>
        ))}
      </ol>
      <p className={`${parts.row} ${view.numbers}`}>
        {now.current_item && <span>{now.current_item}</span>}
        {now.download_speed !== null && now.download_speed > 0 && (
          <span>{t("downloads.speed", { speed: formats.bytes(now.download_speed) })}</span>
        )}
        {now.dependency_count !== null && now.dependency_count > 0 && (
          <span>{t("apps.packages", { done: now.completed_dependencies, total: now.dependency_count })}</span>
        )}
        {now.eta_seconds !== null && <span>{t("downloads.left", { time: formats.duration(now.eta_seconds) })}</span>}
      </p>
    </section>
  );
}
