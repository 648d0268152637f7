import { TriangleAlert } from "lucide-react";
import type { ReactNode } from "react";

import type { CallError } from "../client/errors";
import { useConnection } from "../client/hooks";
import { useTexts } from "../texts/texts";
import css from "./parts.module.css";

/** What went wrong, and what a person can do about it. */
export function Problem({ error, children }: { error: CallError; children?: ReactNode }) {
  const { find, heard } = useTexts();
  const connection = useConnection();
  if (error.kind === "unreachable" && connection !== "open") return null; // the banner above says so once for all
  const advice = find(`error.${error.kind}`);
  return (
    <div className={css.problem} role="alert">
      <TriangleAlert aria-hidden />
      <div>
        <strong>{heard(error.message)}</strong>
        {advice && <span>{advice}</span>}
        {children}
      </div>
    </div>
  );
}

export function Caution({ children }: { children: ReactNode }) {
  return (
    <div className={`${css.problem} ${css.caution}`}>
      <TriangleAlert aria-hidden />
      <div>{children}</div>
    </div>
  );
}
