import { ArrowUpToLine, Undo2 } from "lucide-react";

import type { AppInfo } from "@contract";
import { useCall, useChange } from "../../client/hooks";
import { Badge } from "../../parts/Badge";
import { Button } from "../../parts/Button";
import { Menu } from "../../parts/Menu";
import { notify } from "../../parts/notices";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";
import { AvailableVersions } from "./AvailableVersions";
import type { AskedFor } from "./Installation";
import { RemovedVersions } from "./RemovedVersions";

/** What is installed, what could be, and what was removed. */
export function AppVersions({ app, onInstall }: { app: AppInfo; onInstall: (asked: AskedFor) => void }) {
  const { t } = useTexts();
  const act = useAct();
  const app_id = app.app_id;
  const status = useCall("get_version_status", { app_id }).data?.status;
  const switching = useChange("switch_version");
  const removing = useChange("remove_version");
  const reinstalling = useChange("install_version");
  const preferring = useChange("set_default_version");
  const rollback = useChange("rollback_version");
  const update = useChange("update_version");
  const complete = useChange("install_version_dependencies");
  return (
    <div className={view.stack} style={{ paddingTop: 14 }}>
      <div className={view.spread}>
        <h3>{t("apps.installed")}</h3>
        {app.installed.length > 0 && (
          <Button
            icon={<ArrowUpToLine aria-hidden />}
            disabled={update.isPending}
            onClick={() => act(() => update.mutateAsync({ app_id }))}
          >
            {t("apps.update")}
          </Button>
        )}
        <Button
          icon={<Undo2 aria-hidden />}
          disabled={app.installed.length === 0 || rollback.isPending}
          onClick={() =>
            act(async () => {
              const { tag } = await rollback.mutateAsync({ app_id });
              notify({ tone: "good", text: t("apps.rolled_back", { tag }) });
            })
          }
        >
          {t("apps.rollback")}
        </Button>
      </div>
      {app.installed.length === 0 && <p className={parts.hint}>{t("apps.none")}</p>}
      <ul className={`${parts.list} ${parts.form}`}>
        {app.installed.map((tag) => {
          const missing = status?.versions[tag]?.dependencies.missing.length ?? 0;
          const active = app.active === tag;
          return (
            <li key={tag} className={parts.card} aria-label={tag}>
              <div className={view.spread}>
                <span className={parts.row}>
                  <strong>{tag}</strong>
                  {active && <Badge tone="good">{t("apps.active")}</Badge>}
                  {status?.defaultVersion === tag && <Badge>{t("apps.default")}</Badge>}
                </span>
                {!active && (
                  <Button
                    disabled={switching.isPending}
                    onClick={() => act(() => switching.mutateAsync({ tag, app_id }))}
                  >
                    {t("apps.activate")}
                  </Button>
                )}
                <Menu
                  label={`${t("common.actions")}: ${tag}`}
                  items={[
                    { label: t("apps.prefer"), run: () => act(() => preferring.mutateAsync({ app_id, tag })) },
                    {
                      label: t("apps.reinstall"),
                      run: () => act(() => reinstalling.mutateAsync({ tag, app_id, reinstall: true })),
                    },
                    {
                      label: t("apps.remove"),
                      danger: true,
                      disabled: active && app.installed.length > 1,
                      run: () => act(() => removing.mutateAsync({ tag, app_id, last: active })),
                    },
                  ]}
                />
              </div>
              {missing > 0 && (
                <div className={view.spread}>
                  <span className={parts.danger}>{t("apps.missing_packages", { count: missing })}</span>
                  <Button onClick={() => act(() => complete.mutateAsync({ tag, app_id }))}>
                    {t("apps.missing_packages.install")}
                  </Button>
                </div>
              )}
            </li>
          );
        })}
      </ul>
      <AvailableVersions app={app} onInstall={onInstall} />
      <RemovedVersions app={app} />
    </div>
  );
}
