// Which parts of a text a search matched. The sidecar folds case and diacritics and matches each word as a beginning
// (backend/pumas/library/words.py); this does the same on what is shown.

export interface Piece {
  text: string;
  hit: boolean;
}

const WORD = /[\p{L}\p{N}]+/gu;
const HUMP = /(?<=[a-z])(?=[A-Z])|(?<=[0-9A-Z])(?=[A-Z][a-z])/g;

/** Folded form of each character, so that positions in the folded text lead back to the shown one. */
function fold(text: string): string {
  return text
    .normalize("NFD")
    .replace(/[\u0300-\u036f]/g, "")
    .toLowerCase();
}

export function queryWords(query: string): string[] {
  return [...new Set(fold(query).match(WORD) ?? [])];
}

export function highlight(text: string, words: readonly string[]): Piece[] {
  const pieces: Piece[] = [];
  const add = (part: string, hit: boolean) => {
    const last = pieces.at(-1);
    if (part === "") return;
    if (last?.hit === hit) last.text += part;
    else pieces.push({ text: part, hit });
  };
  let end = 0;
  for (const match of text.normalize("NFC").matchAll(WORD)) {
    const word = match[0];
    let reached = 0;
    for (const start of [0, ...humps(word)]) {
      const length = start < reached ? 0 : matchedLength(word.slice(start), words);
      if (length === 0) continue;
      reached = start + length;
      add(text.normalize("NFC").slice(end, match.index + start), false);
      add(word.slice(start, reached), true);
      end = match.index + reached;
    }
  }
  add(text.normalize("NFC").slice(end), false);
  return pieces;
}

/** Where the parts of a name such as `DeepSeek` begin, without the first. */
function humps(word: string): number[] {
  return /^\p{ASCII}*$/u.test(word) ? [...word.matchAll(HUMP)].map(({ index }) => index) : [];
}

/** How many characters of `word` the longest query word covers. */
function matchedLength(word: string, words: readonly string[]): number {
  const folded = fold(word);
  const longest = Math.max(0, ...words.filter((one) => folded.startsWith(one)).map((one) => one.length));
  if (longest === 0 || folded.length === word.length) return longest;
  let covered = 0;
  let count = 0;
  for (const character of word) {
    if (covered >= longest) break;
    covered += fold(character).length;
    count += character.length;
  }
  return count;
}
