import { lazy, Suspense, useEffect, useState } from "react";

import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import css from "./Library.module.css";
import { closeImport, droppedSources, openImport, useImport } from "./dropped";

const ImportDialog = lazy(() => import("./ImportDialog"));

/** The whole page takes dropped files; the import opens with them. */
export default function DropImport() {
  const { t } = useTexts();
  const act = useAct();
  const { open, sources } = useImport();
  const [over, setOver] = useState(false);
  useEffect(() => {
    let depth = 0;
    const holdsFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const enter = (event: DragEvent) => {
      if (!holdsFiles(event)) return;
      depth++;
      setOver(true);
    };
    const leave = (event: DragEvent) => {
      if (!holdsFiles(event)) return;
      depth = Math.max(0, depth - 1);
      setOver(depth > 0);
    };
    const move = (event: DragEvent) => {
      if (holdsFiles(event)) event.preventDefault();
    };
    const drop = (event: DragEvent) => {
      if (!holdsFiles(event) || event.dataTransfer === null) return;
      event.preventDefault();
      depth = 0;
      setOver(false);
      const sources = droppedSources(event.dataTransfer);
      act(async () => openImport(await sources));
    };
    addEventListener("dragenter", enter);
    addEventListener("dragleave", leave);
    addEventListener("dragover", move);
    addEventListener("drop", drop);
    return () => {
      removeEventListener("dragenter", enter);
      removeEventListener("dragleave", leave);
      removeEventListener("dragover", move);
      removeEventListener("drop", drop);
    };
  }, [act]);
  return (
    <>
      {over && <div className={css.drop}>{t("import.drop")}</div>}
      {open && (
        <Suspense fallback={null}>
          <ImportDialog sources={sources} onClose={closeImport} />
        </Suspense>
      )}
    </>
  );
}
