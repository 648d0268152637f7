import { Dialog } from "../parts/Dialog";
import parts from "../parts/parts.module.css";
import { useTexts } from "../texts/texts";
import { SHORTCUTS } from "./shortcuts";

export default function ShortcutList({ onClose }: { onClose: () => void }) {
  const { t } = useTexts();
  return (
    <Dialog title={t("shortcuts.title")} onClose={onClose}>
      <dl className={parts.facts}>
        {Object.values(SHORTCUTS).map(({ keys, text }) => (
          <div key={text} style={{ display: "contents" }}>
            <dt>
              <kbd className={parts.kbd}>{keys}</kbd>
            </dt>
            <dd>{t(text)}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
