import * as Tabs from "@radix-ui/react-tabs";
import { X } from "lucide-react";

import { isTyping } from "../../app/shortcuts";
import { useCall } from "../../client/hooks";
import { Button } from "../../parts/Button";
import { Loading } from "../../parts/Loading";
import { Problem } from "../../parts/Problem";
import { TabList } from "../../parts/TabList";
import parts from "../../parts/parts.module.css";
import { useTexts } from "../../texts/texts";
import css from "./Library.module.css";
import { ModelAbout } from "./ModelAbout";
import { ModelEdit } from "./ModelEdit";
import { ModelFiles } from "./ModelFiles";
import { ModelHeader } from "./ModelHeader";
import { ModelLinks } from "./ModelLinks";
import { readMetadata } from "./metadata";

const TABS = ["about", "files", "header", "links", "edit"] as const;

export default function ModelDetail({ modelId, onClose }: { modelId: string; onClose: () => void }) {
  const { t } = useTexts();
  const model = useCall("get_model", { model_id: modelId });
  // What was known of a model that is gone describes nothing any more, and its buttons would only fail.
  const gone = model.error?.kind === "model_not_found";
  const facts = readMetadata(model.data?.metadata ?? {}, modelId);
  return (
    <aside
      className={css.detail}
      aria-label={t("model.label", { name: facts.name })}
      onKeyDown={(event) => {
        // Not while something is typed: Escape takes nothing away that was not saved.
        if (event.key === "Escape" && !event.defaultPrevented && !isTyping(event.target)) onClose();
      }}
    >
      <header className={css.detailHead}>
        <div>
          <h2>{facts.name}</h2>
          <p className={parts.hint}>{modelId}</p>
        </div>
        <Button look="quiet" icon={<X aria-hidden />} aria-label={t("common.close")} onClick={onClose} />
      </header>
      {model.isPending && (
        <div className={css.detailProblem}>
          <Loading />
        </div>
      )}
      {model.isError && (
        <div className={css.detailProblem}>
          <Problem error={model.error} />
        </div>
      )}
      {model.data && !gone && (
        <Tabs.Root className={css.tabsRoot} defaultValue="about">
          <TabList
            label={t("model.label", { name: facts.name })}
            tabs={TABS.map((value) => ({ value, label: t(`model.tab.${value}`) }))}
          />
          <div className={css.detailBody}>
            <Tabs.Content value="about">
              <ModelAbout modelId={modelId} folder={model.data.folder} facts={facts} onClose={onClose} />
            </Tabs.Content>
            <Tabs.Content value="files">
              <ModelFiles modelId={modelId} facts={facts} />
            </Tabs.Content>
            <Tabs.Content value="header">
              <ModelHeader folder={model.data.folder} files={facts.files} />
            </Tabs.Content>
            <Tabs.Content value="links">
              <ModelLinks modelId={modelId} />
            </Tabs.Content>
            <Tabs.Content value="edit">
              <ModelEdit modelId={modelId} facts={facts} overrides={model.data.overrides} />
            </Tabs.Content>
          </div>
        </Tabs.Root>
      )}
    </aside>
  );
}
