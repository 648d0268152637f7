import { Download, RefreshCw } from "lucide-react";
import { useState } from "react";

import type { AppInfo } from "@contract";
import { useCall, useChange, useClient } from "../../client/hooks";
import { Badge } from "../../parts/Badge";
import { Button } from "../../parts/Button";
import { Problem } from "../../parts/Problem";
import { notify } from "../../parts/notices";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";
import type { AskedFor } from "./Installation";

const SHOWN_AT_FIRST = 8;

interface Props {
  app: AppInfo;
  onInstall: (asked: AskedFor) => void;
}

export function AvailableVersions({ app, onInstall }: Props) {
  const { t, formats, heard } = useTexts();
  const act = useAct();
  const client = useClient();
  const app_id = app.app_id;
  const answer = useCall("get_available_versions", { app_id });
  const running = useCall("get_installation_progress", { app_id }).data;
  const underWay = running && !running.completed_at ? running.tag : null;
  const install = useChange("install_version");
  const [all, setAll] = useState(false);
  const [asking, setAsking] = useState(false);
  const refresh = () =>
    act(async () => {
      setAsking(true);
      try {
        const fresh = await client.call("get_available_versions", { app_id, force_refresh: true });
        client.queries.setQueryData(["get_available_versions", { app_id }], fresh);
        // Mostly nothing is new, and the list as it was looks as if nothing had been asked.
        if (!fresh.stale) notify({ tone: "good", text: t("apps.available.fresh", { count: fresh.versions.length }) });
      } finally {
        setAsking(false);
      }
    });
  const releases = (answer.data?.versions ?? []).filter((release) => !app.installed.includes(release.tag_name));
  const shown = all ? releases : releases.slice(0, SHOWN_AT_FIRST);
  return (
    <section className={view.stack} aria-label={t("apps.available")}>
      <div className={view.spread}>
        <h3>{t("apps.available")}</h3>
        <Button icon={<RefreshCw aria-hidden />} disabled={asking} onClick={refresh}>
          {t("apps.available.refresh")}
        </Button>
      </div>
      {answer.isPending && <p role="status">{t("common.loading")}</p>}
      {answer.isError && <Problem error={answer.error} />}
      {answer.data?.stale && answer.data.error && (
        <p className={parts.hint}>{t("apps.stale", { error: heard(answer.data.error) })}</p>
      )}
      {answer.data && releases.length === 0 && <p className={parts.hint}>{t("apps.available.none")}</p>}
      <ul className={`${parts.list} ${parts.form}`}>
        {shown.map((release) => (
          <li key={release.tag_name} className={view.spread} aria-label={release.tag_name}>
            <span className={parts.row}>
              <strong>{release.tag_name}</strong>
              {release.prerelease && <Badge>{t("apps.prerelease")}</Badge>}
              <span className={view.numbers}>
                {release.published_at && formats.date(release.published_at)}
                {release.total_size !== null && ` · ${formats.bytes(release.total_size)}`}
              </span>
            </span>
            <Button
              icon={<Download aria-hidden />}
              aria-label={`${t("apps.install")} ${release.tag_name}`}
              disabled={release.tag_name === underWay || install.isPending}
              onClick={({ currentTarget: by }) =>
                act(async () => {
                  await install.mutateAsync({ tag: release.tag_name, app_id, activate: app.active === null });
                  onInstall({ tag: release.tag_name, by });
                })
              }
            >
              {t("apps.install")}
            </Button>
          </li>
        ))}
      </ul>
      {shown.length < releases.length && (
        <Button look="quiet" onClick={() => setAll(true)}>
          {t("common.more")}
        </Button>
      )}
    </section>
  );
}
