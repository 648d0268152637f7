import type { TroubleInfo } from "@contract";
import { Dialog } from "../parts/Dialog";
import parts from "../parts/parts.module.css";
import { useTexts } from "../texts/texts";

/** What is wrong with which file or folder. */
export default function TroubleList({ troubles, onClose }: { troubles: readonly TroubleInfo[]; onClose: () => void }) {
  const { t, heard } = useTexts();
  return (
    <Dialog title={t("health.troubles.title")} onClose={onClose}>
      <ul className={parts.list}>
        {troubles.map(({ subject, message }) => (
          <li key={`${subject} ${message}`} className={parts.field}>
            <code>{subject}</code>
            <span>{heard(message)}</span>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}
