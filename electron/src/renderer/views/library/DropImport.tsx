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
    const holdsFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    // Also what was over the page before this code was there.
    const hover = (event: DragEvent) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      setOver(true);
    };
    // Nothing is counted: an element that goes away under the pointer is entered and never left.
    const leave = (event: DragEvent) => {
      if (event.relatedTarget === null) setOver(false);
    };
    const drop = (event: DragEvent) => {
      if (!holdsFiles(event) || event.dataTransfer === null) return;
      event.preventDefault();
      setOver(false);
      const sources = droppedSources(event.dataTransfer);
      act(async () => openImport(await sources));
    };
    addEventListener("dragenter", hover);
    addEventListener("dragover", hover);
    addEventListener("dragleave", leave);
    addEventListener("drop", drop);
    return () => {
      removeEventListener("dragenter", hover);
      removeEventListener("dragover", hover);
      removeEventListener("dragleave", leave);
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
