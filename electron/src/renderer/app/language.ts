import { useEffect, useState } from "react";

import { usePageSettings } from "../lib/settings";
import { ENGLISH, Texts } from "../texts/texts";

type Language = "en" | "de";

/** English comes with the page; other languages are fetched when they are wanted. */
const LANGUAGES: Record<Language, () => Promise<Texts>> = {
  en: () => Promise.resolve(ENGLISH),
  de: async () => {
    const [{ de }, { HEARD_DE }] = await Promise.all([import("../texts/de"), import("../texts/heard.de")]);
    return new Texts("de", de, HEARD_DE);
  },
};

export function chosenLanguage(setting: Language | "auto", languages: readonly string[]): Language {
  if (setting !== "auto") return setting;
  const known = languages.map((one) => one.slice(0, 2)).find((one): one is Language => one in LANGUAGES);
  return known ?? "en";
}

export function useLanguage(): Texts {
  const { language: setting } = usePageSettings();
  const language = chosenLanguage(setting, navigator.languages);
  const [texts, setTexts] = useState(ENGLISH);
  useEffect(() => {
    let wanted = true;
    void LANGUAGES[language]().then((texts) => {
      if (!wanted) return;
      document.documentElement.lang = language;
      setTexts((current) => (current.language === language ? current : texts));
    });
    return () => {
      wanted = false;
    };
  }, [language]);
  return texts;
}
