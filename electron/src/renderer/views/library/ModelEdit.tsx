import type { SyntheticEvent } from "react";

import { useCall, useChange, useClient } from "../../client/hooks";
import { useKept } from "../../lib/kept";
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

interface Typed {
  name: string;
  tags: string;
  notes: string;
}

export function ModelEdit({ modelId, facts, overrides }: Props) {
  const { t } = useTexts();
  const act = useAct();
  const client = useClient();
  const apps = useCall("list_apps", {});
  const update = useChange("update_model");
  const limit = useChange("update_model_overrides");
  // Only what was typed here: the rest follows the model, which another tab or a script may change meanwhile. It waits
  // here until it is saved, also when a person looks at the files or at another model in between.
  const [typed, setTyped] = useKept<Partial<Typed>>(`model.edit.${modelId}`, {});
  const { name, tags, notes } = { name: facts.name, tags: facts.tags.join(", "), notes: facts.notes, ...typed };
  const type = (changes: Partial<Typed>) => setTyped((known) => ({ ...known, ...changes }));
  const stored = versionRanges(overrides);
  const [limits, setLimits] = useKept<Readonly<Record<string, string>>>(`model.ranges.${modelId}`, {});
  const ranges = { ...stored, ...limits };
  const takers = (apps.data?.apps ?? []).filter((app) => app.takes_models);
  const save = (event: SyntheticEvent) => {
    event.preventDefault();
    act(async () => {
      if (Object.keys(typed).length > 0) {
        await update.mutateAsync({
          model_id: modelId,
          ...(typed.name !== undefined && { official_name: typed.name.trim() }),
          ...(typed.tags !== undefined && { tags: parseTags(typed.tags) }),
          ...(typed.notes !== undefined && { notes: typed.notes }),
        });
      }
      if (JSON.stringify(ranges) !== JSON.stringify(stored)) {
        const given = Object.entries(ranges).filter(([, range]) => range.trim() !== "");
        await limit.mutateAsync({ rel_path: modelId, overrides: { version_ranges: Object.fromEntries(given) } });
      }
      notify({ tone: "good", text: t("model.edit.saved") });
      await client.queries.refetchQueries({ queryKey: ["get_model", { model_id: modelId }] });
      setTyped((now) => (now === typed ? {} : now));
      setLimits((now) => (now === limits ? {} : now));
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
            onChange={(e) => type({ name: e.target.value })}
          />
        )}
      </Field>
      <Field label={t("model.edit.tags")}>
        {(id) => (
          <input id={id} className={parts.input} value={tags} onChange={(e) => type({ tags: e.target.value })} />
        )}
      </Field>
      <Field label={t("model.edit.notes")} hint={t("model.edit.protects")}>
        {(id) => (
          <textarea
            id={id}
            className={parts.input}
            value={notes}
            maxLength={10_000}
            onChange={(e) => type({ notes: e.target.value })}
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
              onChange={(e) => setLimits({ ...limits, [app.app_id]: e.target.value })}
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
