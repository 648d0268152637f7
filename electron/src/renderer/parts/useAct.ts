import { useCallback } from "react";

import { asCallError } from "../client/errors";
import { useTexts } from "../texts/texts";
import { notify } from "./notices";

/** Run what a person asked for; a failure becomes a notice that says what to do. */
export function useAct(): (work: () => Promise<unknown>) => void {
  const { t, find, heard } = useTexts();
  return useCallback(
    (work) => {
      work().catch((reason: unknown) => {
        const error = asCallError(reason);
        notify({
          tone: "bad",
          text: t("common.failed", { error: heard(error.message) }),
          hint: find(`error.${error.kind}`),
        });
      });
    },
    [t, find, heard],
  );
}
