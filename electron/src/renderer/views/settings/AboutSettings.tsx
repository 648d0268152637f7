import { useState } from "react";

import { useCall, useChange, useClient } from "../../client/hooks";
import type { Ok } from "../../client/types";
import { Button } from "../../parts/Button";
import { Facts } from "../../parts/Facts";
import { notify } from "../../parts/notices";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";

export function AboutSettings() {
  const { t, formats, find, heard } = useTexts();
  const act = useAct();
  const client = useClient();
  const launcher = useCall("get_launcher_version", {}).data;
  const library = useCall("get_library_status", {}).data;
  const disk = useCall("get_disk_space", {}, { staleTime: 10_000 }).data;
  const sandbox = useCall("get_sandbox_info", {}).data;
  const update = useChange("apply_launcher_update");
  const [found, setFound] = useState<Ok<"check_launcher_updates"> | null>(null);
  const check = () => act(async () => setFound(await client.call("check_launcher_updates", { force_refresh: true })));
  const restart = () => act(() => window.pumas?.restartSidecar() ?? client.change("restart_launcher", {}));
  return (
    <section className={parts.card} aria-label={t("settings.about")}>
      <h2>{t("settings.about")}</h2>
      <Facts
        facts={[
          [t("settings.version"), launcher?.version],
          [t("settings.library"), library && t("library.count", { count: library.model_count })],
          [t("monitor.disk"), disk && t("common.free", { size: formats.bytes(disk.free) })],
        ]}
      />
      {sandbox?.is_sandboxed && (
        <p className={parts.hint}>
          {find(`settings.sandbox.${sandbox.sandbox_type}`) ?? sandbox.limitations.join(" ")}
        </p>
      )}
      {found && (
        <div role="status" className={parts.field}>
          <p>
            {found.hasUpdate
              ? t("settings.update.some", { count: found.commitsBehind })
              : heard(found.error ?? t("settings.update.none"))}
          </p>
          <ul>
            {found.commits.map((commit) => (
              <li key={commit.sha}>{commit.message}</li>
            ))}
          </ul>
        </div>
      )}
      <div className={parts.row}>
        {launcher?.isGitRepo && <Button onClick={check}>{t("settings.update.check")}</Button>}
        {found?.hasUpdate && (
          <Button
            look="primary"
            disabled={update.isPending}
            onClick={() =>
              act(async () => notify({ tone: "good", text: heard((await update.mutateAsync({})).message) }))
            }
          >
            {t("settings.update.apply")}
          </Button>
        )}
        <Button onClick={restart}>{t("settings.restart")}</Button>
      </div>
    </section>
  );
}
