import { X } from "lucide-react";

import { Button } from "../parts/Button";
import { dismiss, useNotices } from "../parts/notices";
import { useTexts } from "../texts/texts";
import css from "./Shell.module.css";

export function Notices() {
  const { t } = useTexts();
  return (
    <div className={css.notices} role="status" aria-live="polite">
      {useNotices().map(({ id, tone, text, hint, action }) => (
        <div key={id} className={`${css.notice} ${tone === "bad" ? css.bad : ""}`}>
          <div>
            {text}
            {hint && <small>{hint}</small>}
          </div>
          {action && (
            <Button
              onClick={() => {
                action.run();
                dismiss(id);
              }}
            >
              {action.label}
            </Button>
          )}
          <Button look="quiet" icon={<X aria-hidden />} aria-label={t("common.dismiss")} onClick={() => dismiss(id)} />
        </div>
      ))}
    </div>
  );
}
