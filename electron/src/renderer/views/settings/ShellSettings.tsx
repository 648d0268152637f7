import { useEffect, useState } from "react";

import type { PumasBridge, ShellSettings as Settings } from "../../../preload/bridge";
import { Toggle } from "../../parts/Toggle";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";

/** Only in the desktop shell. */
export function ShellSettings({ bridge }: { bridge: PumasBridge }) {
  const { t } = useTexts();
  const act = useAct();
  const [settings, setSettings] = useState<Settings | null>(null);
  useEffect(() => act(async () => setSettings(await bridge.settings())), [act, bridge]);
  const change = (changes: Partial<Settings>) => act(async () => setSettings(await bridge.changeSettings(changes)));
  if (settings === null) return null;
  return (
    <section className={parts.card} aria-label={t("settings.desktop")}>
      <h2>{t("settings.desktop")}</h2>
      <Toggle
        label={t("settings.login")}
        checked={settings.openAtLogin}
        onChange={(openAtLogin) => change({ openAtLogin })}
      />
      <Toggle
        label={t("settings.tray")}
        checked={settings.keepInTray}
        onChange={(keepInTray) => change({ keepInTray })}
      />
      <Toggle
        label={t("settings.notifications")}
        checked={settings.notifications}
        onChange={(notifications) => change({ notifications })}
      />
    </section>
  );
}
