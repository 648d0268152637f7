import { Dialog } from "../parts/Dialog";
import parts from "../parts/parts.module.css";
import { useTexts } from "../texts/texts";
import { keyName, SHORTCUTS } from "./shortcuts";

const NAMES = Object.keys(SHORTCUTS) as (keyof typeof SHORTCUTS)[];

export default function ShortcutList({ onClose }: { onClose: () => void }) {
  const texts = useTexts();
  const { t } = texts;
  return (
    <Dialog title={t("shortcuts.title")} onClose={onClose}>
      <dl className={parts.facts}>
        {NAMES.map((name) => (
          <div key={name} style={{ display: "contents" }}>
            <dt>
              <kbd className={parts.kbd}>{keyName(name, texts)}</kbd>
            </dt>
            <dd>{t(SHORTCUTS[name].text)}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
