import { Command } from "lucide-react";

import { useCall } from "../client/hooks";
import { VIEWS, routeHash, type View } from "../lib/route";
import { useSettled } from "../lib/useSettled";
import { Badge } from "../parts/Badge";
import parts from "../parts/parts.module.css";
import { useTexts } from "../texts/texts";
import { useFollowDownloads } from "../views/downloads/live";
import { useFollowLoad } from "../views/monitor/load";
import css from "./Shell.module.css";
import { keyName } from "./shortcuts";
import { VIEW_ICONS } from "./views";

const MOVING = new Set(["queued", "downloading", "retrying", "waiting", "verifying"]);

export function Navigation({ current, onCommands }: { current: View; onCommands: () => void }) {
  const texts = useTexts();
  const { t } = texts;
  useFollowDownloads();
  useFollowLoad();
  const settled = useSettled();
  return (
    <nav className={css.nav} aria-label={t("nav.label")}>
      <div className={css.brand}>
        <img src="./icon.svg" alt="" />
        <span>{t("app.name")}</span>
      </div>
      {VIEWS.map((view) => {
        const Icon = VIEW_ICONS[view];
        return (
          <a
            key={view}
            className={css.link}
            href={routeHash({ view, item: "" })}
            aria-current={view === current ? "page" : undefined}
            title={t(`nav.${view}`)}
          >
            <Icon aria-hidden />
            <span>{t(`nav.${view}`)}</span>
            {view === "downloads" && settled && <Moving />}
          </a>
        );
      })}
      <div className={css.push} />
      <button type="button" className={css.link} onClick={onCommands} title={t("nav.commands")}>
        <Command aria-hidden />
        <span>{t("nav.commands")}</span>
        <kbd className={parts.kbd}>{keyName("palette", texts)}</kbd>
      </button>
    </nav>
  );
}

/** How many downloads are under way. */
function Moving() {
  const downloads = useCall("list_model_downloads", {});
  const count = downloads.data?.downloads.filter((one) => MOVING.has(one.status)).length ?? 0;
  return count > 0 && <Badge tone="accent">{count}</Badge>;
}
