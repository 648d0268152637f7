import { memo } from "react";

import type { FoundModel } from "@contract";
import { Badge } from "../../parts/Badge";
import { useTexts } from "../../texts/texts";
import { Highlight } from "./Highlight";
import css from "./Library.module.css";

interface Props {
  model: FoundModel | undefined;
  words: readonly string[];
  index: number;
  total: number;
  /** Where it begins in the list, in rem. */
  start: number;
  /** The model that is open. */
  selected: boolean;
  /** Where the arrow keys are. */
  active: boolean;
  onOpen: (index: number) => void;
}

export function rowId(index: number): string {
  return `model-${index}`;
}

export const ModelRow = memo(function ModelRow({ model, words, index, total, start, selected, active, onOpen }: Props) {
  return (
    <div
      id={rowId(index)}
      className={active ? `${css.row} ${css.active}` : css.row}
      role="option"
      aria-selected={selected}
      aria-setsize={total}
      aria-posinset={index + 1}
      style={{ top: `${start}rem` }}
      onClick={() => onOpen(index)}
    >
      {model === undefined ? <div className={css.pending} /> : <Summary model={model} words={words} />}
    </div>
  );
});

function Summary({ model, words }: { model: FoundModel; words: readonly string[] }) {
  const { t, formats } = useTexts();
  const kind = [model.model_type, model.subtype].filter(Boolean).join(" / ");
  // One text, not an element for each: it is read out with pauses, and a scroll makes fewer.
  const about = [kind, model.family, ...(model.quants ?? []), ...(model.formats ?? []), model.tags.join(", ")];
  return (
    <>
      <div className={css.name}>
        <span>
          <Highlight text={model.official_name} words={words} />
        </span>
        {model.state !== "ok" && model.state && <Badge tone="warn">{t(`library.state.${model.state}`)}</Badge>}
        {model.security_tier === "pickle" && <Badge tone="warn">{t("library.pickle")}</Badge>}
        {model.storage && model.storage !== "owned" && <Badge>{t(`library.storage.${model.storage}`)}</Badge>}
        <span className={css.size}>{model.size_bytes !== null && formats.bytes(model.size_bytes)}</span>
      </div>
      <div className={css.about}>
        <Highlight text={about.filter(Boolean).join(" · ")} words={words} />
      </div>
    </>
  );
}
