import { useCallback } from "react";

import { useChange } from "../../client/hooks";
import { notify } from "../../parts/notices";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";

/** Move a model into the trash; the notice offers the way back. */
export function useDelete(): (modelId: string, name: string, then?: () => void) => void {
  const { t } = useTexts();
  const act = useAct();
  const { mutateAsync: remove } = useChange("delete_model_with_cascade");
  const { mutateAsync: restore } = useChange("restore_model");
  return useCallback(
    (modelId, name, then) =>
      act(async () => {
        const { trash_id } = await remove({ model_id: modelId });
        then?.();
        const undo = trash_id === null ? undefined : () => act(() => restore({ trash_id }));
        notify({
          tone: "good",
          text: t("model.deleted", { name }),
          action: undo && { label: t("common.undo"), run: undo },
        });
      }),
    [act, remove, restore, t],
  );
}
