import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

import { translated } from "./heard";
import { METHODS } from "../../preload/methods";
import { HEARD_DE } from "./heard.de";
import { HEARD_EN } from "./heard.en";

const CHECKOUT = join(import.meta.dirname, "../../../..");
const RENDERER = join(import.meta.dirname, "..");

function read(folder: string, wanted: RegExp): { name: string; text: string }[] {
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => wanted.test(name));
  return names.map((name) => ({ name, text: readFileSync(join(folder, name), "utf8") }));
}

/** What the sidecar answers to a person's wishes, as the contract's examples have it. */
function answered(): string[] {
  const source = read(RENDERER, /\.tsx?$/).map(({ text }) => text);
  const called = new Set(
    source.flatMap((text) => [...text.matchAll(/use(?:Call|Change)\(\s*"(\w+)"/g)].map((m) => m[1])),
  );
  expect(called.size).toBeGreaterThan(30);
  const found = new Set<string>();
  const look = (value: unknown, key = ""): void => {
    if (typeof value === "string" && (key === "error" || key === "warnings") && value !== "") found.add(value);
    else if (Array.isArray(value)) for (const one of value) look(one, key);
    else if (typeof value === "object" && value !== null)
      for (const [name, one] of Object.entries(value)) look(one, name);
  };
  for (const { name, text } of read(join(CHECKOUT, "contracts/examples"), /\.json$/)) {
    const method = /(\w+)\.[\w-]+\.json$/.exec(name)?.[1];
    if (called.has(method)) look(JSON.parse(text));
  }
  return [...found];
}

/** Slips of programs, not of people: the page cannot send these. */
const NEVER_SENT =
  /NUL characters|items: each needs|must be made of|must begin with|resolutions: |give either|in the launcher's own/;

describe("German", () => {
  it("has a form for what the sidecar answers", () => {
    const said = answered().filter((sentence) => !NEVER_SENT.test(sentence));
    expect(said.length).toBeGreaterThan(40);
    expect(said.filter((sentence) => translated(sentence, HEARD_DE) === sentence)).toEqual([]);
  });

  it.each([
    [
      "cdn.example sent something unusable: it refuses the signed address of a b.gguf (HTTP 404).",
      "cdn.example gibt a b.gguf unter der Adresse nicht heraus, die der Hub genannt hat (HTTP 404).",
    ],
    [
      "cdn.example sent something unusable: a.gguf is shorter there than the hub lists.",
      "Bei cdn.example ist a.gguf kürzer, als der Hub sagt.",
    ],
  ])("says why a download fails without a word of English: %s", (said, german) => {
    expect(translated(said, HEARD_DE)).toBe(german);
  });

  it("has a form for what every app is", () => {
    const apps = read(join(CHECKOUT, "contracts/apps"), /\.json$/).map(
      ({ text }) => (JSON.parse(text) as { description: string }).description,
    );
    expect(apps.length).toBeGreaterThan(2);
    expect(apps.filter((about) => translated(about, HEARD_DE) === about)).toEqual([]);
  });

  it("has a form for what is noticed in a file", () => {
    const source = readFileSync(join(CHECKOUT, "backend/pumas/library/formats/identify.py"), "utf8");
    const notes = [...source.matchAll(/notes(?:\.append\(|=\[)f?"([^"]+)"/g)].map(([, note = ""]) => note);
    // What is only a file's name and another sentence has that one's form.
    const said = notes.map((note) => note.replace(/\{[^}]*\}/g, "7")).filter((note) => note !== "7: 7.");
    expect(said.length).toBeGreaterThan(8);
    expect(said.filter((note) => translated(note, HEARD_DE) === note)).toEqual([]);
    expect(translated("a-00001-of-00003.gguf: 1 of 3 parts are missing.", HEARD_DE)).toContain("Teilen fehlen.");
  });

  it("has a form for why a file is no model", () => {
    const folder = join(CHECKOUT, "backend/pumas/library/formats");
    const heard = read(folder, /^(?:detect|gguf|onnx|reader|safetensors|zip_directory)\.py$/).flatMap(({ text }) =>
      [...text.matchAll(/(?:\.fail\(f?"|"\{file\.name\}: )([^"]+)"/g)].map(([, why = ""]) => why),
    );
    expect(heard.length).toBeGreaterThan(50);
    const said = heard.map((why) => `a.gguf: ${why.replace(/\{[^}]*\}/g, "7")}; nothing was imported.`);
    const shown = said.map((sentence) => translated(sentence, HEARD_DE));
    expect(shown.filter((sentence) => sentence.includes("nothing was imported"))).toEqual([]);
    expect(
      translated("a.gguf: is cut short: 7 bytes of tensor data are missing; nothing was imported.", HEARD_DE),
    ).toBe("a.gguf: Die Datei ist abgeschnitten: 7 Bytes fehlen. Bitte neu herunterladen; nichts wurde importiert.");
  });

  it("has a form for what a person may type wrong as an address, and for why there is no update", () => {
    const heard = ["net/address.py", "updates/checkout.py", "updates/methods.py"].flatMap((name) =>
      [
        ...readFileSync(join(CHECKOUT, "backend/pumas", name), "utf8").matchAll(
          /(?:InvalidInput\((?:field|"url"), |NotOurCheckout\(|LocalChanges\(|UpdateFailed\(f|message(?:, new, before)? = )"([^"]+)"/g,
        ),
      ].map(([, sentence = ""]) => sentence.replace(/\{[^}]*\}/g, "7")),
    );
    expect(heard.length).toBeGreaterThan(12);
    expect(heard.filter((sentence) => translated(sentence, HEARD_DE) === sentence)).toEqual([]);
  });

  it("takes over no more than a sentence holds", () => {
    const forgotten = HEARD_DE.filter(([pattern, form]) => {
      const names = pattern.source.match(/\((?!\?)(?<!\\\()/g)?.length ?? 0;
      return [...form.matchAll(/\$(\d)/g)].some(([, place]) => Number(place) > names);
    });
    expect(forgotten).toEqual([]);
  });
});

describe("English", () => {
  it("names no method and no parameter", () => {
    const names = new RegExp(`\\b(?:${METHODS.join("|")}|pass [a-z_]+ to)\\b`);
    const said = answered().filter((sentence) => !NEVER_SENT.test(sentence));
    expect(said.filter((sentence) => names.test(sentence)).length).toBeGreaterThan(3);
    expect(said.map((sentence) => translated(sentence, HEARD_EN)).filter((sentence) => names.test(sentence))).toEqual(
      [],
    );
  });

  it.each([
    [
      "Offline mode is on, so hub.test was not asked; set_network_settings turns it off.",
      "Offline mode is on, so hub.test was not asked.",
    ],
    ["a.bin: No download 'x'; list_model_downloads shows the known ones.", "a.bin: No download 'x'."],
    ["No such file; it was moved.", "No such file; it was moved."],
  ])("%s", (sentence, shown) => {
    expect(translated(sentence, HEARD_EN)).toBe(shown);
  });
});

it.each([
  ["There is no app 'paint'; list_apps shows the known ones.", "Eine App „paint“ gibt es nicht."],
  ["roots.pem: No such file or directory", "roots.pem: Datei oder Ordner nicht gefunden"],
  ["a: b: is required", "a: b: fehlt"],
  ["Nobody has heard this yet.", "Nobody has heard this yet."],
])("%s", (sentence, german) => {
  expect(translated(sentence, HEARD_DE)).toBe(german);
  expect(translated(sentence, [])).toBe(sentence);
});
