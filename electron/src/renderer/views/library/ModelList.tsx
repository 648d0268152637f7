import { memo, useCallback, useEffect, useMemo, useRef, useState, type KeyboardEvent } from "react";

import { useClient } from "../../client/hooks";
import type { Ok } from "../../client/types";
import { queryWords } from "../../lib/highlight";
import { useRows } from "../../lib/rows";
import { useTexts } from "../../texts/texts";
import css from "./Library.module.css";
import { ModelRow, rowId } from "./ModelRow";
import { LIST_ID } from "./SearchBox";
import type { Search } from "./params";
import { placeBeyondFirstPage, useFoundModels } from "./search";
import { useDelete } from "./useDelete";

/** As the style sheet has it. */
const ROW_REM = 4;

interface Props {
  search: Search;
  found: Ok<"search_models_fts">;
  /** Id of the model that is open. */
  current: string;
  onOpen: (modelId: string) => void;
}

/** All matches as one list, of which only what is in view exists. */
export const ModelList = memo(function ModelList({ search, found, current, onOpen }: Props) {
  const { t } = useTexts();
  const client = useClient();
  const scroller = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState(0);
  const total = found.total_count;
  const { first, end, page, reveal } = useRows(scroller, total, ROW_REM);
  const rowAt = useFoundModels(search, found, first, end - 1);
  const words = useMemo(() => queryWords(search.query), [search.query]);
  const remove = useDelete();

  useEffect(() => {
    if (scroller.current !== null && scroller.current.scrollTop > 0) scroller.current.scrollTop = 0;
    setActive(0);
  }, [search]);

  // What is opened by its address, or by other parts of the page, is shown once: afterwards a person may scroll away.
  const revealed = useRef("");
  // Further pages are looked through once for it: a search that it is not in would ask for them with each letter.
  const soughtFor = useRef("");
  const revealLatest = useRef(reveal);
  useEffect(() => {
    revealLatest.current = reveal;
  });
  useEffect(() => {
    if (revealed.current === current) return;
    const show = (index: number) => {
      revealed.current = current;
      setActive(index);
      revealLatest.current(index);
    };
    const index = found.models.findIndex(({ model_id }) => model_id === current);
    if (current === "") revealed.current = "";
    else if (index >= 0) show(index);
    else if (soughtFor.current !== current) {
      const over = new AbortController();
      placeBeyondFirstPage(client, search, found, current, over.signal).then(
        (place) => {
          if (over.signal.aborted) return;
          soughtFor.current = current;
          if (place !== null) show(place);
        },
        () => undefined, // the list says itself what is wrong
      );
      return () => over.abort();
    }
    return undefined;
  }, [client, search, current, found]);
  const choose = useCallback(
    (modelId: string) => {
      revealed.current = modelId; // where it is in view already
      onOpen(modelId);
    },
    [onOpen],
  );

  const latest = useRef({ rowAt, current });
  useEffect(() => {
    latest.current = { rowAt, current };
  });
  const open = useCallback(
    (index: number) => {
      setActive(index);
      const model = latest.current.rowAt(index);
      if (model !== undefined) choose(model.model_id);
    },
    [choose],
  );

  const moveTo = (index: number) => {
    const next = Math.min(Math.max(index, 0), total - 1);
    reveal(next);
    setActive(next);
    const model = rowAt(next);
    if (current !== "" && model !== undefined) choose(model.model_id);
  };
  const press = (event: KeyboardEvent) => {
    const moves: Record<string, () => void> = {
      ArrowDown: () => moveTo(active + 1),
      ArrowUp: () => moveTo(active - 1),
      PageDown: () => moveTo(active + page),
      PageUp: () => moveTo(active - page),
      Home: () => moveTo(0),
      End: () => moveTo(total - 1),
      Enter: () => open(active),
      Escape: () => onOpen(""),
      Delete: () => {
        const model = rowAt(active);
        if (model === undefined) return;
        const isOpen = () => latest.current.current === model.model_id;
        remove(model.model_id, model.official_name, () => isOpen() && onOpen(""));
      },
    };
    const move = moves[event.key];
    if (move === undefined) return;
    event.preventDefault();
    move();
  };
  return (
    <div
      ref={scroller}
      id={LIST_ID}
      className={css.scroll}
      role="listbox"
      aria-label={t("library.list")}
      aria-activedescendant={rowId(active)}
      tabIndex={0}
      onKeyDown={press}
    >
      <div className={css.rows} role="presentation" style={{ height: `${total * ROW_REM}rem` }}>
        {Array.from({ length: end - first }, (_, place) => {
          const index = first + place;
          const model = rowAt(index);
          return (
            <ModelRow
              key={index} // in the order of the list, so that no row is moved for another
              model={model}
              words={words}
              index={index}
              total={total}
              start={index * ROW_REM}
              selected={model?.model_id === current}
              active={index === active}
              onOpen={open}
            />
          );
        })}
      </div>
    </div>
  );
});
