import { Command } from "cmdk";
import { FolderInput, Keyboard, Moon, RefreshCw, ShieldCheck, Sun, SunMoon, type LucideIcon } from "lucide-react";
import { useDeferredValue, useState } from "react";

import { useCall, useClient } from "../client/hooks";
import { VIEWS, go } from "../lib/route";
import { changePageSettings } from "../lib/settings";
import { Dialog } from "../parts/Dialog";
import { notify } from "../parts/notices";
import { useAct } from "../parts/useAct";
import { useTexts, type TextKey } from "../texts/texts";
import { openImport } from "../views/library/dropped";
import { useVerifyAll } from "../views/library/useVerifyAll";
import css from "./Palette.module.css";
import { VIEW_ICONS } from "./views";

interface Action {
  text: TextKey;
  Icon: LucideIcon;
  run: () => void;
}

/** Everything by its name: views, actions, models. */
export default function Palette({ onClose, onShortcuts }: { onClose: () => void; onShortcuts: () => void }) {
  const { t } = useTexts();
  const client = useClient();
  const act = useAct();
  const verifyAll = useVerifyAll();
  const [text, setText] = useState("");
  const query = useDeferredValue(text.trim());
  const models = useCall("search_models_fts", { query, limit: 8 }, { enabled: query.length > 1 });
  const then = (run: () => void) => () => {
    onClose();
    run();
  };
  const actions: Action[] = [
    { text: "import.title", Icon: FolderInput, run: () => openImport() },
    {
      text: "library.refresh",
      Icon: RefreshCw,
      run: () =>
        act(async () => {
          const { indexed_count: count } = await client.change("refresh_model_index", {});
          notify({ tone: "good", text: t("library.refreshed", { count }) });
        }),
    },
    { text: "library.verify_all", Icon: ShieldCheck, run: verifyAll },
    { text: "palette.theme.dark", Icon: Moon, run: () => changePageSettings({ theme: "dark" }) },
    { text: "palette.theme.light", Icon: Sun, run: () => changePageSettings({ theme: "light" }) },
    { text: "palette.theme.auto", Icon: SunMoon, run: () => changePageSettings({ theme: "auto" }) },
  ];
  return (
    <Dialog title={t("palette.title")} onClose={onClose}>
      <Command label={t("palette.title")} className={css.palette}>
        <Command.Input
          autoFocus
          className={css.input}
          value={text}
          onValueChange={setText}
          placeholder={t("palette.placeholder")}
        />
        <Command.List className={css.list}>
          <Command.Empty>{t("palette.empty")}</Command.Empty>
          <Command.Group heading={t("palette.views")}>
            {VIEWS.map((view) => {
              const Icon = VIEW_ICONS[view];
              return (
                <Command.Item key={view} value={t(`nav.${view}`)} onSelect={then(() => go(view))}>
                  <Icon aria-hidden />
                  {t(`nav.${view}`)}
                </Command.Item>
              );
            })}
          </Command.Group>
          <Command.Group heading={t("palette.actions")}>
            {actions.map(({ text: name, Icon, run }) => (
              <Command.Item key={name} value={t(name)} onSelect={then(run)}>
                <Icon aria-hidden />
                {t(name)}
              </Command.Item>
            ))}
            <Command.Item value={t("shortcuts.title")} onSelect={onShortcuts}>
              <Keyboard aria-hidden />
              {t("shortcuts.title")}
            </Command.Item>
          </Command.Group>
          {query.length > 1 && (
            <Command.Group heading={t("palette.models")}>
              {models.data?.models.map((model) => (
                <Command.Item
                  key={model.model_id}
                  value={`${query} ${model.model_id}`}
                  onSelect={then(() => go("library", model.model_id))}
                >
                  {model.official_name}
                  <small>{model.model_id}</small>
                </Command.Item>
              ))}
            </Command.Group>
          )}
        </Command.List>
      </Command>
    </Dialog>
  );
}
