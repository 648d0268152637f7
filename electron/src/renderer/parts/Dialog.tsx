import * as Radix from "@radix-ui/react-dialog";
import { X } from "lucide-react";
import { useEffect, useState, type ReactNode } from "react";

import { useTexts } from "../texts/texts";
import { Button } from "./Button";
import { holdBack } from "./notices";
import css from "./parts.module.css";

interface Props {
  title: string;
  onClose: () => void;
  children: ReactNode;
  foot?: ReactNode;
}

/** A dialog over the page. The overlay is our own: Radix's injects a style element, which the page's CSP refuses. */
export function Dialog({ title, onClose, children, foot }: Props) {
  const { t } = useTexts();
  const [before] = useState(() => document.activeElement);
  useEffect(holdBack, []);
  /** Radix knows only its own triggers: whatever had the focus before gets it back. */
  const giveFocusBack = (event: Event) => {
    event.preventDefault();
    if (before instanceof HTMLElement && before.isConnected) before.focus();
  };
  return (
    <Radix.Root open onOpenChange={(open) => !open && onClose()}>
      <Radix.Portal>
        <div className={css.overlay}>
          <Radix.Content
            className={css.dialog}
            aria-describedby={undefined}
            onCloseAutoFocus={giveFocusBack}
            onInteractOutside={staysOpen}
          >
            <header className={css.dialogHead}>
              <Radix.Title asChild>
                <h2>{title}</h2>
              </Radix.Title>
              <Button look="quiet" icon={<X aria-hidden />} aria-label={t("common.close")} onClick={onClose} />
            </header>
            <div className={css.dialogBody}>{children}</div>
            {foot && <footer className={css.dialogFoot}>{foot}</footer>}
          </Radix.Content>
        </div>
      </Radix.Portal>
    </Radix.Root>
  );
}

/** A message is not outside of the dialog that it came from. */
function staysOpen(event: Event & { detail: { originalEvent: Event } }): void {
  const { target } = event.detail.originalEvent;
  if (target instanceof Element && target.closest("[data-notices]") !== null) event.preventDefault();
}
