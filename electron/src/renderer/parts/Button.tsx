import { useState, type ButtonHTMLAttributes, type FocusEvent, type ReactNode } from "react";

import css from "./parts.module.css";

interface Props extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: "plain" | "primary" | "quiet" | "danger";
  icon?: ReactNode;
}

const LOOKS = { plain: "", primary: css.primary, quiet: css.quiet, danger: css.danger };

/**
 * What is disabled while it has the focus keeps it, and does nothing: a browser takes the focus from what is really
 * disabled, so that nothing has it after a press that leaves nothing to press for.
 */
export function Button({ look = "plain", icon, children, className, disabled = false, onClick, ...rest }: Props) {
  const [focused, setFocused] = useState(false);
  const held = disabled && focused;
  const shape = children === undefined ? css.icon : "";
  return (
    <button
      type="button"
      className={[css.button, LOOKS[look], shape, className].filter(Boolean).join(" ")}
      {...rest}
      disabled={disabled && !held}
      aria-disabled={held || undefined}
      onClick={held ? (event) => event.preventDefault() : onClick}
      onFocus={(event: FocusEvent<HTMLButtonElement>) => {
        setFocused(true);
        rest.onFocus?.(event);
      }}
      onBlur={(event: FocusEvent<HTMLButtonElement>) => {
        setFocused(false);
        rest.onBlur?.(event);
      }}
    >
      {icon}
      {children}
    </button>
  );
}
