import { keepPreviousData } from "@tanstack/react-query";
import { memo, useState } from "react";

import { useCall } from "../../client/hooks";
import { Button } from "../../parts/Button";
import { useTexts, type Texts } from "../../texts/texts";
import css from "./Library.module.css";
import {
  FACETS,
  NO_FILTERS,
  facetParams,
  hasFilters,
  withFilter,
  type Facet,
  type Filters,
  type Search,
} from "./params";

const SHOWN_AT_FIRST = 7;
interface Props {
  filters: Filters;
  /** The search whose models are counted; it may be a moment behind. */
  counted: Search;
  onChange: (filters: Filters) => void;
}

/** What can be chosen, with how many models of the search each choice would leave. Not redrawn with each letter. */
export const Facets = memo(function Facets({ filters, counted, onChange }: Props) {
  const texts = useTexts();
  const { t } = texts;
  const counts = useCall("get_model_facets", facetParams(counted), { placeholderData: keepPreviousData });
  const apps = useCall("list_apps", {}, { enabled: Object.keys(counts.data?.apps ?? {}).length > 0 });
  const names: Names = {
    sizes: (value) => sizeName(value, texts),
    apps: (value) => apps.data?.apps.find(({ app_id }) => app_id === value)?.name ?? value,
  };
  const chosen = hasFilters(filters);
  const choices = chosen || FACETS.some((facet) => Object.keys(counts.data?.[facet] ?? {}).length > 0);
  return (
    <aside className={css.facets} aria-label={t("library.filters")}>
      {choices && (
        <h2>
          {t("library.filters")}
          {chosen && (
            <Button look="quiet" onClick={() => onChange(NO_FILTERS)}>
              {t("library.filters.clear")}
            </Button>
          )}
        </h2>
      )}
      {counts.data &&
        FACETS.map((facet) => (
          <FacetGroup
            key={facet}
            facet={facet}
            counts={counts.data[facet]}
            name={names[facet]}
            chosen={filters[facet]}
            onToggle={(value, on) => onChange(withFilter(filters, facet, value, on))}
          />
        ))}
    </aside>
  );
});

type Names = Partial<Record<Facet, (value: string) => string>>;

interface GroupProps {
  facet: Facet;
  counts: Readonly<Record<string, number>>;
  chosen: readonly string[];
  /** What is shown for a value; left out: the value itself. */
  name: ((value: string) => string) | undefined;
  onToggle: (value: string, on: boolean) => void;
}

function FacetGroup({ facet, counts, chosen, name = String, onToggle }: GroupProps) {
  const texts = useTexts();
  const [all, setAll] = useState(false);
  const values = inOrder(facet, counts);
  const gone = chosen.filter((value) => !(value in counts));
  const shown = all ? values : values.filter((value, index) => index < SHOWN_AT_FIRST || chosen.includes(value));
  if (values.length === 0 && gone.length === 0) return null;
  return (
    <fieldset className={css.facet}>
      <legend>{texts.t(`library.facet.${facet}`)}</legend>
      {[...gone, ...shown].map((value) => (
        <label key={value} className={css.choice}>
          <input
            type="checkbox"
            checked={chosen.includes(value)}
            onChange={(event) => onToggle(value, event.target.checked)}
          />
          <span>{name(value)}</span>
          <small>{texts.formats.count(counts[value] ?? 0)}</small>
        </label>
      ))}
      {shown.length < values.length && (
        <Button look="quiet" onClick={() => setAll(true)}>
          {texts.t("common.more")}
        </Button>
      )}
    </fieldset>
  );
}

/** The most frequent first, as they come; sizes from small to large. */
function inOrder(facet: Facet, counts: Readonly<Record<string, number>>): string[] {
  const values = Object.keys(counts);
  if (facet === "sizes") return values.sort((a, b) => Number(a) - Number(b));
  return values.sort((a, b) => (counts[b] ?? 0) - (counts[a] ?? 0));
}

/** Lower bounds of the bands in GiB, as the sidecar counts them (backend/pumas/library/words.py). */
const BOUNDS = [0, 1, 4, 8, 16, 32, 64];

function sizeName(value: string, { t }: Texts): string {
  const from = Number(value);
  const to = BOUNDS[BOUNDS.indexOf(from) + 1];
  if (to === undefined) return t("library.size.above", { from });
  return from === 0 ? t("library.size.below", { to }) : t("library.size.between", { from, to });
}
