import type { AppInfo } from "@contract";
import { useCall, useChange } from "../../client/hooks";
import { Badge } from "../../parts/Badge";
import { Button } from "../../parts/Button";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";

export function RemovedVersions({ app }: { app: AppInfo }) {
  const { t, formats } = useTexts();
  const act = useAct();
  const app_id = app.app_id;
  const restore = useChange("restore_version");
  const purge = useChange("purge_removed_version");
  const removed = useCall("list_removed_versions", { app_id }).data?.versions ?? [];
  if (removed.length === 0) return null;
  return (
    <section className={view.stack} aria-label={t("apps.removed")}>
      <h3>{t("apps.removed")}</h3>
      <ul className={`${parts.list} ${parts.form}`}>
        {removed.map(({ trash_id, tag, reason, removed_at }) => (
          <li key={trash_id} className={view.spread} aria-label={tag}>
            <span className={parts.row}>
              <strong>{tag}</strong>
              {reason === "replaced" && <Badge>{t("apps.removed.reason")}</Badge>}
              <span className={view.numbers}>{formats.ago(removed_at)}</span>
            </span>
            <Button onClick={() => act(() => restore.mutateAsync({ trash_id, app_id }))}>{t("apps.restore")}</Button>
            <Button look="danger" onClick={() => act(() => purge.mutateAsync({ trash_id, app_id }))}>
              {t("apps.purge")}
            </Button>
          </li>
        ))}
      </ul>
    </section>
  );
}
