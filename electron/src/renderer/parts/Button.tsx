import type { ButtonHTMLAttributes, ReactNode } from "react";

import css from "./parts.module.css";

interface Props extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: "plain" | "primary" | "quiet" | "danger";
  icon?: ReactNode;
}

const LOOKS = { plain: "", primary: css.primary, quiet: css.quiet, danger: css.danger };

export function Button({ look = "plain", icon, children, className, ...rest }: Props) {
  const shape = children === undefined ? css.icon : "";
  return (
    <button type="button" className={[css.button, LOOKS[look], shape, className].filter(Boolean).join(" ")} {...rest}>
      {icon}
      {children}
    </button>
  );
}
