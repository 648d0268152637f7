import { highlight } from "../../lib/highlight";

export function Highlight({ text, words }: { text: string; words: readonly string[] }) {
  if (words.length === 0) return text;
  return highlight(text, words).map((piece, index) => (piece.hit ? <mark key={index}>{piece.text}</mark> : piece.text));
}
