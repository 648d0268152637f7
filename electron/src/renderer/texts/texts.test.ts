import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

import { chosenLanguage } from "../app/language";
import { de } from "./de";
import { en } from "./en";
import { Texts, type Table, type TextKey } from "./texts";

const SOURCE = join(import.meta.dirname, "..");
const TABLES: Record<string, Table> = { en, de };
const KEYS = Object.keys(en) as TextKey[];

function forms(table: Table, key: TextKey): string[] {
  const text = table[key];
  return typeof text === "string" ? [text] : [text.one, text.other];
}

function names(table: Table, key: TextKey): string[] {
  return [...new Set(forms(table, key).flatMap((form) => form.match(/\{\w+\}/g) ?? []))].sort();
}

describe.each(Object.entries(TABLES))("%s", (language, table) => {
  it("has every text and no other", () => {
    expect(Object.keys(table).sort()).toEqual([...KEYS].sort());
    expect(KEYS.filter((key) => forms(table, key).some((form) => form.trim() === ""))).toEqual([]);
  });

  it("names the same values", () => {
    const wrong = KEYS.filter((key) => names(table, key).join() !== names(en, key).join());
    expect(wrong, language).toEqual([]);
  });
});

it("gives advice only about failures that exist", () => {
  const contract = JSON.parse(readFileSync(join(SOURCE, "../../../contracts/errors.json"), "utf8")) as object;
  const own = new Set(["unreachable", "unauthorized", "method_not_found"]);
  const unknown = KEYS.filter((key) => key.startsWith("error."))
    .map((key) => key.slice("error.".length))
    .filter((kind) => !(kind in contract) && !own.has(kind));
  expect(unknown).toEqual([]);
});

it("holds no text that nothing shows", () => {
  const files = readdirSync(SOURCE, { recursive: true, encoding: "utf8" });
  const code = files
    .filter((name) => /\.tsx?$/.test(name) && !name.includes("texts/"))
    .map((name) => readFileSync(join(SOURCE, name), "utf8"))
    .join("\n");
  // Keys that are put together: `t(`downloads.status.${status}`)`.
  const beginnings = [...code.matchAll(/`([a-z_.]+\.)\$\{/g)].map((match) => match[1] ?? "");
  const unused = KEYS.filter((key) => !code.includes(`"${key}"`) && !beginnings.some((start) => key.startsWith(start)));
  expect(unused).toEqual([]);
});

describe("Texts", () => {
  const texts = new Texts("en", en, []);

  it.each([
    [1, "1 model"],
    [0, "0 models"],
    [12345, "12,345 models"],
  ])("counts %d", (count, text) => {
    expect(texts.t("library.count", { count })).toBe(text);
  });

  it("shows values as they are, never as code", () => {
    expect(texts.t("model.deleted", { name: "{name} <b>" })).toBe("{name} <b> is in the trash.");
  });

  it("finds a text by a key that was put together", () => {
    expect(texts.find("error.disk_full")).toContain("trash");
    expect(texts.find("error.nothing_of_the_kind")).toBeUndefined();
  });
});

it.each([
  ["auto", ["de-AT", "en"], "de"],
  ["auto", ["fr", "de"], "de"],
  ["auto", ["fr"], "en"],
  ["auto", [], "en"],
  ["en", ["de"], "en"],
] as const)("chooses a language: %s of %j", (setting, languages, expected) => {
  expect(chosenLanguage(setting, languages)).toBe(expected);
});
