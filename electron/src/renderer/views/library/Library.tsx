import { FolderInput, Trash2 } from "lucide-react";
import { lazy, Suspense, useCallback, useDeferredValue, useState } from "react";

import { useCall } from "../../client/hooks";
import { useKept } from "../../lib/kept";
import { show } from "../../lib/route";
import { useCalm } from "../../lib/useCalm";
import { Button } from "../../parts/Button";
import { Problem } from "../../parts/Problem";
import parts from "../../parts/parts.module.css";
import { useTexts } from "../../texts/texts";
import { EmptyLibrary } from "./EmptyLibrary";
import { Facets } from "./Facets";
import css from "./Library.module.css";
import { ModelList } from "./ModelList";
import { RESULTS_ID, SearchBox } from "./SearchBox";
import { SortBy } from "./SortBy";
import { openImport } from "./dropped";
import { EVERYTHING, hasFilters, type Filters, type Search } from "./params";
import { useFirstPage } from "./search";

const ModelDetail = lazy(() => import("./ModelDetail"));
const TrashDialog = lazy(() => import("./TrashDialog"));

/** Counting takes longer than finding, and nobody reads counts between two letters. */
const PAUSE_MS = 250;

function openModel(id: string): void {
  show("library", id);
}

export function Library({ item }: { item: string }) {
  const { t } = useTexts();
  const [search, setSearch] = useKept<Search>("library.search", EVERYTHING);
  const [showTrash, setShowTrash] = useState(false);
  const answer = useFirstPage(search);
  const status = useCall("get_library_status", {});
  const found = answer.data;
  const facetsAfterRows = useDeferredValue(found !== undefined, false);
  // The rows stay those of the last answer, with its highlights, until the next one is there: one redraw for each letter.
  const [shown, setShown] = useState(search);
  if (shown !== search && !answer.isPlaceholderData && !answer.isPending) setShown(search);
  const counted = useCalm(search, PAUSE_MS);
  const setFilters = useCallback((filters: Filters) => setSearch((now) => ({ ...now, filters })), [setSearch]);
  const searching = search.query.trim() !== "" || hasFilters(search.filters);
  return (
    <div className={css.library} data-detail={item !== ""}>
      <header className={css.head}>
        <h1 className={css.title}>{t("library.title")}</h1>
        <SearchBox value={search.query} onChange={(query) => setSearch((now) => ({ ...now, query }))} />
        <Button icon={<FolderInput aria-hidden />} onClick={() => openImport()}>
          {t("library.import")}
        </Button>
        <Button icon={<Trash2 aria-hidden />} onClick={() => setShowTrash(true)}>
          {t("library.trash")}
        </Button>
      </header>
      {facetsAfterRows && <Facets filters={search.filters} counted={counted} onChange={setFilters} />}
      <section id={RESULTS_ID} className={css.results} aria-label={t("library.list")}>
        <div className={css.above}>
          <p className={answer.isPending ? `${css.count} ${parts.loading}` : css.count} role="status">
            {answer.isPending && t("common.loading")}
            {found &&
              t(found.matched === "any" && found.total_count > 0 ? "library.count.any" : "library.count", {
                count: found.total_count,
              })}
            {status.data?.indexing && status.data.last_scan === null && ` · ${t("library.indexing")}`}
          </p>
          {found && found.total_count > 0 && (
            <SortBy value={search.sort} onChange={(sort) => setSearch((now) => ({ ...now, sort }))} />
          )}
        </div>
        {answer.isError && <Problem error={answer.error} />}
        {found && found.total_count > 0 && <ModelList search={shown} found={found} current={item} onOpen={openModel} />}
        {found?.total_count === 0 && (
          <EmptyLibrary
            searching={searching}
            onClear={() => setSearch(({ sort }) => ({ ...EVERYTHING, sort }))}
            onImport={() => openImport()}
          />
        )}
      </section>
      {item !== "" && (
        <Suspense fallback={<aside className={css.detail} />}>
          <ModelDetail key={item} modelId={item} onClose={() => show("library", "")} />
        </Suspense>
      )}
      {showTrash && (
        <Suspense fallback={null}>
          <TrashDialog onClose={() => setShowTrash(false)} />
        </Suspense>
      )}
    </div>
  );
}
