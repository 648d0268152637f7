import type { Repeated } from "@contract";
import { Badge } from "../../parts/Badge";
import parts from "../../parts/parts.module.css";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";

const TONES = { shared: "good", duplicate: "warn", possible: "plain" } as const;
const SHOWN = 200;

/** The same bytes in several places, and what sharing them would free. */
export function RepeatedFiles({ repeated }: { repeated: readonly Repeated[] }) {
  const { t, formats } = useTexts();
  return (
    <section className={parts.card} aria-label={t("stores.repeated")}>
      <h2>{t("stores.repeated")}</h2>
      {repeated.length === 0 && <p className={parts.hint}>{t("stores.repeated.none")}</p>}
      <ul className={`${parts.list} ${parts.form}`}>
        {repeated.slice(0, SHOWN).map((one) => (
          <li key={one.places.map(({ path }) => path).join()} className={parts.field}>
            <span className={parts.row}>
              <Badge tone={TONES[one.certainty]}>{t(`stores.certainty.${one.certainty}`)}</Badge>
              <span className={view.numbers}>{formats.bytes(one.size)}</span>
              {one.freed > 0 && <strong>{t("stores.frees", { size: formats.bytes(one.freed) })}</strong>}
            </span>
            {one.places.map((place) => (
              <span key={place.path}>
                {place.model} <code className={parts.hint}>{place.path}</code>
              </span>
            ))}
          </li>
        ))}
      </ul>
    </section>
  );
}
