import { useCallback, useEffect, useRef, useState } from "react";

import { useCall, useEvent } from "../../client/hooks";
import type { PumasEvent } from "../../client/types";
import { Toggle } from "../../parts/Toggle";
import parts from "../../parts/parts.module.css";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";
import { appended } from "./log";

/** What an app prints, as it prints it. */
export function ProcessLog({ appId }: { appId: string }) {
  const { t } = useTexts();
  const answer = useCall("get_process_log", { app_id: appId, lines: 500 }, { staleTime: 0, gcTime: 0 });
  const [news, setNews] = useState<{ since: number; lines: readonly string[] }>({ since: 0, lines: [] });
  const [follow, setFollow] = useState(true);
  const box = useRef<HTMLPreElement>(null);
  const since = answer.dataUpdatedAt;
  const hear = useCallback(
    ({ data }: PumasEvent) => {
      if (data.app_id !== appId) return;
      // What an answer holds already is not added to it once more.
      setNews((known) => ({
        since,
        lines: appended(known.since === since ? known.lines : [], data.lines as string[]),
      }));
    },
    [appId, since],
  );
  useEvent("process.log", hear);
  const lines = appended(answer.data?.lines ?? [], news.since === since ? news.lines : []);
  useEffect(() => {
    if (follow) box.current?.scrollTo({ top: box.current.scrollHeight });
  }, [lines.length, news, follow]);
  return (
    <div className={view.stack} style={{ paddingTop: 14 }}>
      <div className={parts.row}>
        <Toggle label={t("apps.log.follow")} checked={follow} onChange={setFollow} />
        {answer.data && <code className={parts.hint}>{answer.data.log_path}</code>}
      </div>
      <pre ref={box} className={view.log} tabIndex={0} role="log" aria-label={t("apps.log")} aria-live="off">
        {lines.length === 0 ? t("apps.log.empty") : lines.join("\n")}
      </pre>
    </div>
  );
}
