import { ExternalLink as Arrow, Play, Square } from "lucide-react";

import type { AppInfo, Process } from "@contract";
import { useChange } from "../../client/hooks";
import { Badge } from "../../parts/Badge";
import { Button } from "../../parts/Button";
import { ExternalLink } from "../../parts/ExternalLink";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";

export function RunControls({ app, run }: { app: AppInfo; run: Process | undefined }) {
  const { t, heard } = useTexts();
  const act = useAct();
  const launch = useChange("launch_app");
  const stop = useChange("stop_app");
  if (run === undefined) {
    return (
      <Button
        look="primary"
        icon={<Play aria-hidden />}
        disabled={app.active === null || launch.isPending}
        onClick={() => act(() => launch.mutateAsync({ app_id: app.app_id }))}
      >
        {t("apps.run")}
      </Button>
    );
  }
  return (
    <div className={parts.row}>
      <Badge tone={run.state === "ready" ? "good" : "warn"}>{t(`apps.state.${run.state}`)}</Badge>
      {run.state === "ready" && (
        <ExternalLink href={run.url}>
          <Arrow aria-hidden size={14} /> {t("apps.open_page")}
        </ExternalLink>
      )}
      <Button
        look="danger"
        icon={<Square aria-hidden />}
        disabled={run.state === "stopping" || stop.isPending}
        onClick={() => act(() => stop.mutateAsync({ run_id: run.run_id }))}
      >
        {t("apps.stop")}
      </Button>
      {run.error && <p className={parts.danger}>{heard(run.error)}</p>}
    </div>
  );
}
