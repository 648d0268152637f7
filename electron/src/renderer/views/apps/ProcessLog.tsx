import { memo, useCallback, useEffect, useMemo, useRef, useState, type UIEvent } from "react";

import { useCall, useEvent } from "../../client/hooks";
import type { PumasEvent } from "../../client/types";
import { Toggle } from "../../parts/Toggle";
import parts from "../../parts/parts.module.css";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";
import { appended, type Block } from "./log";

/** Less than a line. */
const NEAR_PX = 12;

/** What an app prints, as it prints it. */
export function ProcessLog({ appId }: { appId: string }) {
  const { t, formats } = useTexts();
  const answer = useCall("get_process_log", { app_id: appId, lines: 500 }, { staleTime: 0, gcTime: 0 });
  const [news, setNews] = useState<{ since: number; blocks: readonly Block[] }>({ since: 0, blocks: [] });
  const [follow, setFollow] = useState(true);
  const box = useRef<HTMLPreElement>(null);
  const since = answer.dataUpdatedAt;
  const first = useMemo(() => appended([], answer.data?.lines ?? []), [answer.data]);
  const hear = useCallback(
    ({ data }: PumasEvent) => {
      if (data.app_id !== appId) return;
      // What an answer holds already is not added to it once more.
      const skipped = Number(data.skipped_bytes) || 0;
      const gap = skipped > 0 ? [t("apps.log.skipped", { size: formats.bytes(skipped) })] : [];
      setNews((known) => ({
        since,
        blocks: appended(known.since === since ? known.blocks : first, [...gap, ...(data.lines as string[])]),
      }));
    },
    [appId, since, first, t, formats],
  );
  useEvent("process.log", hear);
  const blocks = news.since === since ? news.blocks : first;
  useEffect(() => {
    if (follow && box.current !== null) box.current.scrollTop = box.current.scrollHeight;
  }, [blocks, follow]);
  // Whoever scrolls back wants to read; whoever comes to the end again wants to see what is next.
  const before = useRef(0);
  const scrolled = ({ currentTarget: { scrollTop, scrollHeight, clientHeight } }: UIEvent) => {
    const atEnd = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    if (atEnd !== follow && scrollTop < before.current !== atEnd) setFollow(atEnd);
    before.current = scrollTop;
  };
  return (
    <div className={view.stack} style={{ paddingTop: 14 }}>
      <div className={parts.row}>
        <Toggle label={t("apps.log.follow")} checked={follow} onChange={setFollow} />
        {answer.data && <code className={parts.hint}>{answer.data.log_path}</code>}
      </div>
      <pre
        ref={box}
        className={view.log}
        tabIndex={0}
        role="log"
        aria-label={t("apps.log")}
        aria-live="off"
        onScroll={scrolled}
      >
        {blocks.length === 0 && t("apps.log.empty")}
        {blocks.map((block) => (
          <Lines key={block.id} block={block} />
        ))}
      </pre>
    </div>
  );
}

const Lines = memo(function Lines({ block }: { block: Block }) {
  return <div className={view.lines}>{`${block.lines.join("\n")}\n`}</div>;
});
