import { X } from "lucide-react";
import { useEffect, useRef } from "react";

import { Button } from "../parts/Button";
import { dismiss, patienceMs, useNotices, type Notice } from "../parts/notices";
import { useTexts } from "../texts/texts";
import css from "./Shell.module.css";

const LOOK_AGAIN_MS = 1500;

export function Notices() {
  return (
    <div className={css.notices} data-notices role="status" aria-live="polite">
      {useNotices().map((notice) => (
        <Message key={notice.id} notice={notice} />
      ))}
    </div>
  );
}

/** Stays as long as the pointer or the keyboard is at any of them. */
function Message({ notice }: { notice: Notice }) {
  const { t } = useTexts();
  const place = useRef<HTMLDivElement>(null);
  const { id, tone, text, hint, action } = notice;
  useEffect(() => {
    const look = () => {
      if (place.current?.parentElement?.matches(":hover, :focus-within")) timer = setTimeout(look, LOOK_AGAIN_MS);
      else dismiss(id);
    };
    let timer = setTimeout(look, patienceMs(notice));
    return () => clearTimeout(timer);
  }, [id, notice]);
  return (
    <div ref={place} className={`${css.notice} ${tone === "bad" ? css.bad : ""}`}>
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
  );
}
