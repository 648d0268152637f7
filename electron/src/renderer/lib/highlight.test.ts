import { expect, it } from "vitest";

import { highlight, queryWords } from "./highlight";

/** Hits in brackets. */
function shown(text: string, query: string): string {
  return highlight(text, queryWords(query))
    .map(({ text: piece, hit }) => (hit ? `[${piece}]` : piece))
    .join("");
}

it.each([
  ["Llama 3.1 8B", "llama", "[Llama] 3.1 8B"],
  ["Llama 3.1 8B", "LLA 8", "[Lla]ma 3.1 [8]B"],
  ["Llama-3.1-8B", "3.1", "Llama-[3].[1]-8B"],
  ["llama", "lama", "llama"],
  ["Café Ünïcode", "cafe uni", "[Café] [Ünï]code"],
  ["Cafe", "café", "[Cafe]"],
  ["Cafe\u0301 au lait", "café", "[Café] au lait"],
  ["模型 7B", "模", "[模]型 7B"],
  ["Straße", "strasse", "Straße"],
  ["a b", "", "a b"],
  ["", "x", ""],
  ["llama llamas", "llama llamas", "[llama] [llamas]"],
  ["<b>bold</b>", "b", "<[b]>[b]old</[b]>"],
  ["DeepSeek-R1 TinyLlama", "deep seek llama", "[DeepSeek]-R1 Tiny[Llama]"],
  ["DeepSeek", "deepse", "[DeepSe]ek"],
  ["RealVisXL2Turbo", "vis tur", "Real[Vis]XL2[Tur]bo"],
  ["x*y", '" OR *', "x*y"],
])("%s searched for %s", (text, query, expected) => {
  expect(shown(text, query)).toBe(expected);
});

it("loses and adds no character", () => {
  for (const text of ["İstanbul", "ﬁle ﬀ", "e\u0301\u0302", "𝕏 model", "\u200b", "ǅ", "Ａｂｃ"]) {
    for (const query of ["i", "f", "e", "x", "a", "istanbul"]) {
      const pieces = highlight(text, queryWords(query));
      expect(pieces.map((piece) => piece.text).join("")).toBe(text.normalize("NFC"));
    }
  }
});
