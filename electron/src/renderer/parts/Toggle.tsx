import * as Switch from "@radix-ui/react-switch";
import { useId, type ReactNode } from "react";

import css from "./parts.module.css";

interface Props {
  label: string;
  hint?: ReactNode;
  checked: boolean;
  disabled?: boolean;
  onChange: (checked: boolean) => void;
}

export function Toggle({ label, hint, checked, disabled = false, onChange }: Props) {
  const id = useId();
  return (
    <div className={css.row}>
      <Switch.Root className={css.switch} id={id} checked={checked} disabled={disabled} onCheckedChange={onChange}>
        <Switch.Thumb className={css.thumb} />
      </Switch.Root>
      <label htmlFor={id}>{label}</label>
      {hint && <span className={css.hint}>{hint}</span>}
    </div>
  );
}
