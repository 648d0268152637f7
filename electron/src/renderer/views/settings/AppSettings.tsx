import { useCall, useChange } from "../../client/hooks";
import { Field } from "../../parts/Field";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";

const CHOICES = ["stop", "keep"] as const;

export function AppSettings() {
  const { t } = useTexts();
  const act = useAct();
  const answer = useCall("get_process_settings", {});
  const change = useChange("set_process_settings");
  return (
    <section className={parts.card} aria-label={t("settings.apps")}>
      <h2>{t("settings.apps")}</h2>
      <Field label={t("settings.on_exit")}>
        {(id) => (
          <select
            id={id}
            className={parts.input}
            value={answer.data?.on_exit ?? "stop"}
            disabled={answer.data === undefined}
            onChange={(event) =>
              act(() => change.mutateAsync({ on_exit: event.target.value as (typeof CHOICES)[number] }))
            }
          >
            {CHOICES.map((one) => (
              <option key={one} value={one}>
                {t(`settings.on_exit.${one}`)}
              </option>
            ))}
          </select>
        )}
      </Field>
    </section>
  );
}
