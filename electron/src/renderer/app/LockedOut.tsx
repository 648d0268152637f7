import { KeyRound } from "lucide-react";

import { Empty } from "../parts/Empty";
import { TextsContext, useTexts } from "../texts/texts";
import { useLanguage } from "./language";

/** Shown instead of the page when it was opened without a right to call the sidecar. */
export function LockedOut() {
  const texts = useLanguage();
  return (
    <TextsContext value={texts}>
      <main>
        <LockedOutMessage />
      </main>
    </TextsContext>
  );
}

export function LockedOutMessage() {
  const { t } = useTexts();
  return (
    <Empty icon={<KeyRound aria-hidden />} title={t("health.unauthorized")} hint={t("health.unauthorized.hint")} />
  );
}
