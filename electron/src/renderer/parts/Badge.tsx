import type { ReactNode } from "react";

import css from "./parts.module.css";

export type Tone = "plain" | "good" | "warn" | "bad" | "accent";

export function Badge({ tone = "plain", title, children }: { tone?: Tone; title?: string; children: ReactNode }) {
  return (
    <span className={`${css.badge} ${tone === "plain" ? "" : (css[tone] ?? "")}`} title={title}>
      {children}
    </span>
  );
}
