// Texts are data: one table per language with the same keys. A text may name values in braces, and may have a form for
// one thing and one for more.
import { createContext, use } from "react";

import { Formats, once } from "../lib/format";
import { en } from "./en";
import { translated, type Sentence } from "./heard";
import { HEARD_EN } from "./heard.en";

export type TextKey = keyof typeof en;
export type Text = string | { one: string; other: string };
export type Table = Record<TextKey, Text>;
export type Values = Readonly<Record<string, string | number>>;

export class Texts {
  readonly formats: Formats;
  private readonly plural = once(() => new Intl.PluralRules(this.language));

  constructor(
    readonly language: string,
    private readonly table: Table,
    private readonly sentences: readonly Sentence[],
  ) {
    // The region (24 hours or 12, which date order) is the system's where the language is the same.
    const region = navigator.languages.find((one) => one.slice(0, 2) === language);
    this.formats = new Formats(region ?? language);
  }

  /** `count` chooses between the form for one and for more, and is shown grouped. */
  readonly t = (key: TextKey, values: Values = {}): string => {
    const text = this.table[key];
    const form = typeof text === "string" ? text : text[this.form(Number(values.count))];
    return form.replace(/\{(\w+)\}/g, (_, name: string) => {
      const value = values[name] ?? "";
      return typeof value === "number" ? this.formats.count(value) : value;
    });
  };

  /** The text of a key that was put together, such as one for an error's kind; undefined when there is none. */
  readonly find = (key: string): string | undefined => (key in this.table ? this.t(key as TextKey) : undefined);

  /** A sentence of the sidecar in this language, as far as there is a form for it. */
  readonly heard = (sentence: string): string => translated(sentence, this.sentences);

  private form(count: number): "one" | "other" {
    return this.plural().select(count) === "one" ? "one" : "other";
  }
}

export const ENGLISH = new Texts("en", en, HEARD_EN);

export const TextsContext = createContext(ENGLISH);

export function useTexts(): Texts {
  return use(TextsContext);
}
