/** A log that is open for days must not fill the memory. */
export const MOST_LINES = 5000;

export function appended(lines: readonly string[], news: readonly string[]): readonly string[] {
  if (news.length === 0) return lines;
  return [...lines, ...news].slice(-MOST_LINES);
}
