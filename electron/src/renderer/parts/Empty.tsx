import type { ReactNode } from "react";

import css from "./parts.module.css";

interface Props {
  icon: ReactNode;
  title: string;
  hint?: string;
  children?: ReactNode;
}

/** A place with nothing in it says what can be done. */
export function Empty({ icon, title, hint, children }: Props) {
  return (
    <div className={css.empty}>
      {icon}
      <h2>{title}</h2>
      {hint && <p>{hint}</p>}
      {children && <div className={css.row}>{children}</div>}
    </div>
  );
}
