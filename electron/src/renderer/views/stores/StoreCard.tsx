import type { AdoptItem, Store } from "@contract";
import { useChange } from "../../client/hooks";
import { Badge } from "../../parts/Badge";
import { Button } from "../../parts/Button";
import { notify } from "../../parts/notices";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";

/** One program's models, and taking them into the library without copying a byte. */
export function StoreCard({ store, folders }: { store: Store; folders: readonly string[] }) {
  const { t, formats, heard } = useTexts();
  const act = useAct();
  const adopt = useChange("adopt_models");
  const open = store.models.filter((model) => model.in_library === null && model.problem === null);
  const take = (items: AdoptItem[]) =>
    act(async () => {
      const done = await adopt.mutateAsync({ items, folders: [...folders] });
      notify({ tone: "good", text: t("stores.taken", { count: done.adopted }) });
      for (const result of done.results.filter(({ success }) => !success)) {
        notify({ tone: "bad", text: `${result.name}: ${heard(result.error ?? "")}` });
      }
    });
  const name = t(`stores.kind.${store.kind}`);
  return (
    <section className={parts.card} aria-label={`${name} ${store.path}`}>
      <div className={view.spread}>
        <div className={parts.field}>
          <h2>{name}</h2>
          <code className={parts.hint}>{store.path}</code>
        </div>
        {store.kind !== "pumas" && open.length > 1 && (
          <Button disabled={adopt.isPending} onClick={() => take(open.map(({ stored_id }) => ({ stored_id })))}>
            {t("stores.take_all", { count: open.length })}
          </Button>
        )}
      </div>
      <p className={parts.hint}>
        {t("stores.models", { count: store.models.length })} · {formats.bytes(store.size)}
      </p>
      {store.problems.length > 0 && (
        <details>
          <summary>{t("stores.problems", { count: store.problems.length + store.more_problems })}</summary>
          <ul>
            {store.problems.map((problem) => (
              <li key={`${problem.path} ${problem.kind}`}>
                <code>{problem.path}</code>: {heard(problem.message)}
              </li>
            ))}
          </ul>
        </details>
      )}
      <ul className={`${parts.list} ${parts.form}`} style={{ maxHeight: 420, overflow: "auto" }} tabIndex={0}>
        {store.models.map((model) => (
          <li key={model.stored_id} className={view.spread} aria-label={model.title}>
            <span className={parts.field}>
              <span className={parts.row}>
                <strong>{model.title || model.name}</strong>
                {model.quantization && <Badge>{model.quantization}</Badge>}
                <span className={view.numbers}>{formats.bytes(model.size)}</span>
              </span>
              {model.problem && <span className={parts.danger}>{heard(model.problem)}</span>}
            </span>
            {model.in_library !== null ? (
              <Badge tone="good">{t("stores.in_library")}</Badge>
            ) : (
              store.kind !== "pumas" && (
                <Button
                  disabled={adopt.isPending || model.problem !== null}
                  aria-label={`${t("stores.take")}: ${model.title || model.name}`}
                  onClick={() => take([{ stored_id: model.stored_id }])}
                >
                  {t("stores.take")}
                </Button>
              )
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}
