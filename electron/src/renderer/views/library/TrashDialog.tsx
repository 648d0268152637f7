import { RotateCcw, Trash2 } from "lucide-react";
import { useState } from "react";

import type { TrashEntry } from "@contract";
import { useCall, useChange } from "../../client/hooks";
import { Button } from "../../parts/Button";
import { Dialog } from "../../parts/Dialog";
import { Empty } from "../../parts/Empty";
import { Problem } from "../../parts/Problem";
import { notify } from "../../parts/notices";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import css from "./Library.module.css";

export default function TrashDialog({ onClose }: { onClose: () => void }) {
  const { t, formats } = useTexts();
  const act = useAct();
  const trash = useCall("list_trash", {});
  const restore = useChange("restore_model");
  const empty = useChange("empty_trash");
  const [doomed, setDoomed] = useState<readonly TrashEntry[]>([]);
  const entries = trash.data?.entries ?? [];
  const purge = () =>
    act(async () => {
      setDoomed([]);
      const { freed } = await empty.mutateAsync({ trash_ids: doomed.map(({ trash_id }) => trash_id) });
      notify({ tone: "good", text: t("trash.purged", { size: formats.bytes(freed) }) });
    });
  return (
    <Dialog
      title={t("trash.title")}
      onClose={onClose}
      foot={
        doomed.length > 0 ? (
          <>
            <p style={{ flex: 1 }} role="alert">
              {t("trash.purge.confirm", {
                count: doomed.length,
                size: formats.bytes(doomed.reduce((sum, { size }) => sum + size, 0)),
              })}
            </p>
            {/* Not where the button was that asks: the second press of a double click is no answer. */}
            <Button look="danger" onClick={purge}>
              {t("trash.purge")}
            </Button>
            <Button onClick={() => setDoomed([])}>{t("common.cancel")}</Button>
          </>
        ) : (
          entries.length > 0 && (
            <Button look="danger" onClick={() => setDoomed(entries)}>
              {t("trash.purge_all")}
            </Button>
          )
        )
      }
    >
      {trash.isError && <Problem error={trash.error} />}
      {trash.data && entries.length === 0 && (
        <Empty icon={<Trash2 aria-hidden />} title={t("trash.empty")} hint={t("trash.empty.hint")} />
      )}
      <ul className={`${parts.list} ${parts.form}`}>
        {entries.map((entry) => (
          <li key={entry.trash_id} className={css.candidate} aria-label={entry.official_name}>
            <div className={css.candidateHead}>
              <strong>{entry.official_name}</strong>
              <Button
                icon={<RotateCcw aria-hidden />}
                onClick={() =>
                  act(async () => {
                    await restore.mutateAsync({ trash_id: entry.trash_id });
                    notify({ tone: "good", text: t("trash.restored", { name: entry.official_name }) });
                  })
                }
              >
                {t("trash.restore")}
              </Button>
              <Button look="danger" onClick={() => setDoomed([entry])}>
                {t("trash.purge")}
              </Button>
            </div>
            <p className={parts.hint}>
              {entry.model_id} · {formats.bytes(entry.size)} · {t("trash.files", { count: entry.files })} ·{" "}
              {t("trash.deleted", { when: formats.ago(entry.deleted_at) })}
            </p>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}
