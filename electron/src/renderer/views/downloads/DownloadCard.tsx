import { BadgeCheck, Pause, Play, RotateCcw, X } from "lucide-react";
import { useState, type ReactNode } from "react";

import type { DownloadStatus } from "@contract";
import { useChange } from "../../client/hooks";
import { go } from "../../lib/route";
import { Badge, type Tone } from "../../parts/Badge";
import { Bar } from "../../parts/Bar";
import { Button } from "../../parts/Button";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";
import { DownloadFiles } from "./DownloadFiles";

type Status = DownloadStatus["status"];
const PAUSABLE: readonly Status[] = ["queued", "downloading", "retrying", "waiting", "verifying"];
const TONES: Partial<Record<Status, Tone>> = {
  downloading: "accent",
  verifying: "accent",
  retrying: "warn",
  completed: "good",
  error: "bad",
};

export function DownloadCard({ download, handle }: { download: DownloadStatus; handle?: ReactNode }) {
  const { t, formats, find, heard } = useTexts();
  const [showFiles, setShowFiles] = useState(false);
  const { status, title } = download;
  const moving = status === "downloading" || status === "retrying" || status === "verifying";
  return (
    <article className={parts.card} aria-label={title}>
      <div className={view.spread}>
        <h3>
          {title} {download.quant && <Badge>{download.quant.toUpperCase()}</Badge>}
        </h3>
        <Badge tone={TONES[status] ?? "plain"}>{t(`downloads.status.${status}`)}</Badge>
        <Controls download={download} />
        {handle}
      </div>
      {status !== "completed" && status !== "cancelled" && (
        <Bar value={download.progress} label={title} good={status === "verifying"} />
      )}
      <div className={`${parts.row} ${view.numbers}`}>
        <span>
          {status === "completed"
            ? formats.bytes(download.total_bytes)
            : t("downloads.of", {
                done: formats.bytes(download.downloaded_bytes),
                total: formats.bytes(download.total_bytes),
              })}
        </span>
        {moving && <span>{t("downloads.speed", { speed: formats.bytes(download.speed) })}</span>}
        {moving && download.eta_seconds !== null && (
          <span>{t("downloads.left", { time: formats.duration(download.eta_seconds) })}</span>
        )}
        {download.restarts > 0 && <span>{t("downloads.restarts", { count: download.restarts })}</span>}
        {download.finished_at && <span>{formats.ago(download.finished_at)}</span>}
        <Button look="quiet" aria-expanded={showFiles} onClick={() => setShowFiles(!showFiles)}>
          {t("downloads.files")}
        </Button>
      </div>
      {download.message && <p className={parts.hint}>{heard(download.message)}</p>}
      {download.error && (
        <p className={parts.danger}>
          {heard(download.error)} {find(`error.${download.error_code}`)}
        </p>
      )}
      {download.warnings.map((warning) => (
        <p key={warning} className={parts.hint}>
          {heard(warning)}
        </p>
      ))}
      {showFiles && <DownloadFiles download={download} />}
    </article>
  );
}

function Controls({ download }: { download: DownloadStatus }) {
  const { t } = useTexts();
  const act = useAct();
  const pause = useChange("pause_model_download");
  const resume = useChange("resume_model_download");
  const cancel = useChange("cancel_model_download");
  const { status, download_id, model_id } = download;
  const id = { download_id };
  return (
    <div className={parts.row}>
      {PAUSABLE.includes(status) && (
        <Button icon={<Pause aria-hidden />} onClick={() => act(() => pause.mutateAsync(id))}>
          {t("downloads.pause")}
        </Button>
      )}
      {status === "paused" && (
        <Button icon={<Play aria-hidden />} onClick={() => act(() => resume.mutateAsync(id))}>
          {t("downloads.resume")}
        </Button>
      )}
      {status === "error" && (
        <Button icon={<RotateCcw aria-hidden />} onClick={() => act(() => resume.mutateAsync(id))}>
          {t("downloads.retry")}
        </Button>
      )}
      {status !== "completed" && status !== "cancelled" && status !== "cancelling" && (
        <Button look="danger" icon={<X aria-hidden />} onClick={() => act(() => cancel.mutateAsync(id))}>
          {t("downloads.cancel")}
        </Button>
      )}
      {status === "cancelled" && (
        <Button icon={<RotateCcw aria-hidden />} onClick={() => go("discover", download.repo_id)}>
          {t("downloads.again")}
        </Button>
      )}
      {status === "completed" && model_id && (
        <Button icon={<BadgeCheck aria-hidden />} onClick={() => go("library", model_id)}>
          {t("downloads.show")}
        </Button>
      )}
    </div>
  );
}
