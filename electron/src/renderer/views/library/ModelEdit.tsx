import { useState, type SyntheticEvent } from "react";

import { useCall, useChange } from "../../client/hooks";
import { Button } from "../../parts/Button";
import { Field } from "../../parts/Field";
import { notify } from "../../parts/notices";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import { parseTags, versionRanges, type ModelFacts } from "./metadata";

interface Props {
  modelId: string;
  facts: ModelFacts;
  overrides: Readonly<Record<string, unknown>>;
}

export function ModelEdit({ modelId, facts, overrides }: Props) {
  const { t } = useTexts();
  const act = useAct();
  const apps = useCall("list_apps", {});
  const update = useChange("update_model");
  const limit = useChange("update_model_overrides");
  const [name, setName] = useState(facts.name);
  const [tags, setTags] = useState(facts.tags.join(", "));
  const [notes, setNotes] = useState(facts.notes);
  const stored = versionRanges(overrides);
  const [ranges, setRanges] = useState(stored);
  const takers = (apps.data?.apps ?? []).filter((app) => app.takes_models);
  const save = (event: SyntheticEvent) => {
    event.preventDefault();
    act(async () => {
      await update.mutateAsync({ model_id: modelId, official_name: name.trim(), tags: parseTags(tags), notes });
      if (JSON.stringify(ranges) !== JSON.stringify(stored)) {
        const given = Object.entries(ranges).filter(([, range]) => range.trim() !== "");
        await limit.mutateAsync({ rel_path: modelId, overrides: { version_ranges: Object.fromEntries(given) } });
      }
      notify({ tone: "good", text: t("model.edit.saved") });
    });
  };
  return (
    <form onSubmit={save} className={parts.form}>
      <Field label={t("model.edit.name")}>
        {(id) => (
          <input
            id={id}
            className={parts.input}
            value={name}
            required
            maxLength={512}
            onChange={(e) => setName(e.target.value)}
          />
        )}
      </Field>
      <Field label={t("model.edit.tags")}>
        {(id) => <input id={id} className={parts.input} value={tags} onChange={(e) => setTags(e.target.value)} />}
      </Field>
      <Field label={t("model.edit.notes")} hint={t("model.edit.protects")}>
        {(id) => (
          <textarea
            id={id}
            className={parts.input}
            value={notes}
            maxLength={10_000}
            onChange={(e) => setNotes(e.target.value)}
          />
        )}
      </Field>
      {takers.map((app) => (
        <Field key={app.app_id} label={`${t("model.edit.ranges")}: ${app.name}`} hint={t("model.edit.ranges.hint")}>
          {(id) => (
            <input
              id={id}
              className={parts.input}
              value={ranges[app.app_id] ?? ""}
              spellCheck={false}
              onChange={(e) => setRanges({ ...ranges, [app.app_id]: e.target.value })}
            />
          )}
        </Field>
      ))}
      <div className={parts.row}>
        <Button look="primary" type="submit" disabled={update.isPending || limit.isPending}>
          {t("common.save")}
        </Button>
      </div>
    </form>
  );
}
