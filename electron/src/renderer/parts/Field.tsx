import { useId, type ReactElement, type ReactNode } from "react";

import css from "./parts.module.css";

interface Props {
  label: string;
  hint?: ReactNode;
  /** Gets the id that the label names. */
  children: (id: string) => ReactElement;
}

export function Field({ label, hint, children }: Props) {
  const id = useId();
  return (
    <div className={css.field}>
      <label className={css.label} htmlFor={id}>
        {label}
      </label>
      {children(id)}
      {hint && <span className={css.hint}>{hint}</span>}
    </div>
  );
}
