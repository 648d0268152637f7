import { ArrowLeft, Compass, Search, SearchX } from "lucide-react";
import { useDeferredValue, useEffect, useState } from "react";

import type { HubResult } from "@contract";
import { useCall } from "../../client/hooks";
import { useKept } from "../../lib/kept";
import { go } from "../../lib/route";
import { Badge } from "../../parts/Badge";
import { Button } from "../../parts/Button";
import { Empty } from "../../parts/Empty";
import { Problem } from "../../parts/Problem";
import parts from "../../parts/parts.module.css";
import { useTexts } from "../../texts/texts";
import library from "../library/Library.module.css";
import view from "../view.module.css";
import { HubModel } from "./HubModel";

const TASKS = [
  "text-generation",
  "text-to-image",
  "image-text-to-text",
  "automatic-speech-recognition",
  "feature-extraction",
  "text-to-video",
  "text-to-speech",
];
/** Every question goes out to the hub: it is asked when the typing pauses. */
const PAUSE_MS = 350;

export default function Discover({ item }: { item: string }) {
  const { t, formats } = useTexts();
  const [text, setText] = useKept("discover.text", "");
  const [kind, setKind] = useKept("discover.kind", "");
  const query = usePaused(text.trim());
  const answer = useCall("search_hf_models", { query, kind: kind || null, limit: 50 }, { staleTime: 300_000 });
  const results = useDeferredValue(answer.data?.models ?? []);
  return (
    <div className={view.split} data-chosen={item !== ""}>
      <header className={view.splitHead}>
        <h1 className={parts.visuallyHidden}>{t("discover.title")}</h1>
        <div className={library.search}>
          <Search aria-hidden />
          <input
            type="search"
            autoFocus
            value={text}
            aria-label={t("discover.search")}
            placeholder={t("discover.placeholder")}
            spellCheck={false}
            onChange={(event) => setText(event.target.value)}
          />
        </div>
        <select
          className={parts.input}
          style={{ width: 220 }}
          aria-label={t("discover.kind")}
          value={kind}
          onChange={(event) => setKind(event.target.value)}
        >
          <option value="">{t("discover.kind.any")}</option>
          {TASKS.map((task) => (
            <option key={task}>{task}</option>
          ))}
        </select>
      </header>
      <section className={view.pane} aria-label={t("discover.results")} aria-busy={answer.isFetching}>
        <p className={library.count} role="status">
          {answer.isFetching
            ? t("common.loading")
            : query === ""
              ? t("discover.popular")
              : answer.data && t("library.count", { count: results.length })}
          {answer.data?.stale &&
            answer.data.fetched_at &&
            ` · ${t("discover.stale", { when: formats.ago(answer.data.fetched_at) })}`}
        </p>
        {answer.isError && <Problem error={answer.error} />}
        {answer.data?.models.length === 0 && (
          <Empty icon={<SearchX aria-hidden />} title={t("discover.empty")} hint={t("discover.empty.hint")} />
        )}
        {results.map((result) => (
          <Result key={result.repoId} result={result} current={result.repoId === item} />
        ))}
      </section>
      <section className={view.pane} aria-label={item || t("discover.options")}>
        {item === "" ? (
          <Empty icon={<Compass aria-hidden />} title={t("discover.none")} />
        ) : (
          <>
            <p className={view.back}>
              <Button look="quiet" icon={<ArrowLeft aria-hidden />} onClick={() => go("discover")}>
                {t("discover.back")}
              </Button>
            </p>
            <HubModel key={item} repoId={item} />
          </>
        )}
      </section>
    </div>
  );
}

function Result({ result, current }: { result: HubResult; current: boolean }) {
  const { t, formats } = useTexts();
  return (
    <button
      type="button"
      className={view.result}
      aria-current={current ? "true" : undefined}
      onClick={() => go("discover", result.repoId)}
    >
      <span className={view.spread}>
        <strong>{result.repoId}</strong>
        {result.gated && <Badge tone="warn">{t("discover.gated")}</Badge>}
        {result.parameters !== null && <Badge>{formats.parameters(result.parameters)}</Badge>}
      </span>
      <span className={`${parts.row} ${view.numbers}`}>
        {result.kind && <span>{result.kind}</span>}
        <span>{result.formats.join(", ")}</span>
        {result.downloads !== null && (
          <span>{t("discover.downloads", { count: formats.compactCount(result.downloads) })}</span>
        )}
        {result.likes !== null && <span>{t("discover.likes", { count: formats.compactCount(result.likes) })}</span>}
      </span>
    </button>
  );
}

function usePaused(value: string): string {
  const [paused, setPaused] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setPaused(value), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return paused;
}
