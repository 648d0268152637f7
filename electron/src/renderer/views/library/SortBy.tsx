import { useId } from "react";

import { useTexts } from "../../texts/texts";
import css from "./Library.module.css";
import { SORTS, type Sort } from "./params";

/** Which models come first. */
export function SortBy({ value, onChange }: { value: Sort; onChange: (sort: Sort) => void }) {
  const { t } = useTexts();
  const id = useId();
  return (
    <div className={css.sort}>
      <label htmlFor={id}>{t("library.sort")}</label>
      <select id={id} value={value} onChange={(event) => onChange(event.target.value as Sort)}>
        {SORTS.map((sort) => (
          <option key={sort} value={sort}>
            {t(`library.sort.${sort}`)}
          </option>
        ))}
      </select>
    </div>
  );
}
