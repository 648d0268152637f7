import { changePageSettings, usePageSettings, type PageSettings as Choices } from "../../lib/settings";
import { Field } from "../../parts/Field";
import parts from "../../parts/parts.module.css";
import { Toggle } from "../../parts/Toggle";
import { useTexts } from "../../texts/texts";

/** Languages are named in themselves. */
const LANGUAGES = { en: "English", de: "Deutsch" } as const;
const THEMES = ["auto", "dark", "light"] as const;

export function PageSettings() {
  const { t } = useTexts();
  const { language, theme, singleKeys } = usePageSettings();
  return (
    <section className={parts.card} aria-label={t("settings.page")}>
      <h2>{t("settings.page")}</h2>
      <Field label={t("settings.language")}>
        {(id) => (
          <select
            id={id}
            className={parts.input}
            value={language}
            onChange={(event) => changePageSettings({ language: event.target.value as Choices["language"] })}
          >
            <option value="auto">{t("settings.language.auto")}</option>
            {Object.entries(LANGUAGES).map(([code, name]) => (
              <option key={code} value={code} lang={code}>
                {name}
              </option>
            ))}
          </select>
        )}
      </Field>
      <Field label={t("settings.theme")}>
        {(id) => (
          <select
            id={id}
            className={parts.input}
            value={theme}
            onChange={(event) => changePageSettings({ theme: event.target.value as Choices["theme"] })}
          >
            {THEMES.map((one) => (
              <option key={one} value={one}>
                {t(`settings.theme.${one}`)}
              </option>
            ))}
          </select>
        )}
      </Field>
      <Toggle
        label={t("settings.single_keys")}
        checked={singleKeys === "on"}
        onChange={(on) => changePageSettings({ singleKeys: on ? "on" : "off" })}
      />
    </section>
  );
}
