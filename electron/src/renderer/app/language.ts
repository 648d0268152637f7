import { useEffect, useState } from "react";

import { usePageSettings } from "../lib/settings";
import { en } from "../texts/en";
import { ENGLISH, Texts, type Table } from "../texts/texts";

type Language = "en" | "de";

/** English comes with the page; other languages are fetched when they are wanted. */
const TABLES: Record<Language, () => Promise<Table>> = {
  en: () => Promise.resolve(en),
  de: () => import("../texts/de").then((module) => module.de),
};

export function chosenLanguage(setting: Language | "auto", languages: readonly string[]): Language {
  if (setting !== "auto") return setting;
  const known = languages.map((one) => one.slice(0, 2)).find((one): one is Language => one in TABLES);
  return known ?? "en";
}

export function useLanguage(): Texts {
  const { language: setting } = usePageSettings();
  const language = chosenLanguage(setting, navigator.languages);
  const [texts, setTexts] = useState(ENGLISH);
  useEffect(() => {
    let wanted = true;
    void TABLES[language]().then((table) => {
      if (!wanted) return;
      document.documentElement.lang = language;
      setTexts((current) => (current.language === language ? current : new Texts(language, table)));
    });
    return () => {
      wanted = false;
    };
  }, [language]);
  return texts;
}
