import { useCall, useChange } from "../../client/hooks";
import { Badge } from "../../parts/Badge";
import { Button } from "../../parts/Button";
import { notify } from "../../parts/notices";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";

/** What was taken over, and giving it back. */
export function Adoptions() {
  const { t, formats } = useTexts();
  const act = useAct();
  const undo = useChange("undo_adoption");
  const answer = useCall("list_adoptions", { limit: 500 });
  const adoptions = answer.data?.adoptions ?? [];
  return (
    <section className={parts.card} aria-label={t("stores.adopted")}>
      <h2>{t("stores.adopted")}</h2>
      {answer.data && adoptions.length === 0 && <p className={parts.hint}>{t("stores.adopted.none")}</p>}
      <ul className={`${parts.list} ${parts.form}`}>
        {adoptions.map((one) => (
          <li key={one.adoption_id} className={view.spread} aria-label={one.official_name}>
            <span className={parts.row}>
              <strong>{one.official_name}</strong>
              <Badge>{t(`stores.kind.${one.kind}`)}</Badge>
              <Badge>{t(`model.storage.${one.mode}`)}</Badge>
              {one.state !== "ok" && <Badge tone="warn">{t(`library.state.${one.state}`)}</Badge>}
              <span className={view.numbers}>{formats.bytes(one.size)}</span>
            </span>
            <Button
              aria-label={`${t("stores.give_back")}: ${one.official_name}`}
              onClick={() =>
                act(async () => {
                  await undo.mutateAsync({ adoption_id: one.adoption_id });
                  notify({ tone: "good", text: t("stores.given_back", { name: one.official_name }) });
                })
              }
            >
              {t("stores.give_back")}
            </Button>
          </li>
        ))}
      </ul>
    </section>
  );
}
