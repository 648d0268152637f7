import { Search } from "lucide-react";
import { useEffect, useRef } from "react";

import { isTyping } from "../../app/shortcuts";
import { usePageSettings } from "../../lib/settings";
import parts from "../../parts/parts.module.css";
import { useTexts } from "../../texts/texts";
import css from "./Library.module.css";

export const LIST_ID = "models";
/** What the search changes: the list, or why there is none. */
export const RESULTS_ID = "results";

export function SearchBox({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  const { t } = useTexts();
  const input = useRef<HTMLInputElement>(null);
  const singleKeys = usePageSettings().singleKeys === "on";
  useEffect(() => {
    if (!singleKeys) return;
    const press = (event: KeyboardEvent) => {
      if (event.key !== "/" || isTyping(event.target)) return;
      event.preventDefault();
      input.current?.select();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [singleKeys]);
  return (
    <div className={css.search}>
      <Search aria-hidden />
      <input
        ref={input}
        type="search"
        autoFocus
        value={value}
        aria-label={t("library.search")}
        aria-controls={RESULTS_ID}
        placeholder={t("library.search.placeholder")}
        spellCheck={false}
        onChange={(event) => onChange(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "ArrowDown") {
            event.preventDefault();
            document.getElementById(LIST_ID)?.focus();
          } else if (event.key === "Escape" && value !== "") {
            event.preventDefault();
            onChange("");
          }
        }}
      />
      {value === "" && singleKeys && (
        <kbd className={parts.kbd} aria-hidden>
          /
        </kbd>
      )}
    </div>
  );
}
