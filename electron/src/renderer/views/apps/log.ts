// A log in blocks: an app that prints without end changes the last of them and takes away the first, and what lies between
// is neither made nor laid out anew.

/** A log that is open for days must not fill the memory. */
export const MOST_LINES = 5000;
/** What comes is added to the last block up to so many lines, so that an app that says little makes few blocks. */
const FULL = 200;

export interface Block {
  readonly id: number;
  readonly lines: readonly string[];
}

export function appended(blocks: readonly Block[], news: readonly string[]): readonly Block[] {
  const lines = news.slice(-MOST_LINES);
  if (lines.length === 0) return blocks;
  const last = blocks.at(-1);
  const fits = last !== undefined && last.lines.length + lines.length <= FULL;
  const next = fits
    ? [...blocks.slice(0, -1), { id: last.id, lines: [...last.lines, ...lines] }]
    : [...blocks, { id: (last?.id ?? 0) + 1, lines }];
  let count = next.reduce((sum, block) => sum + block.lines.length, 0);
  const from = next.findIndex((block) => (count -= block.lines.length) < MOST_LINES);
  return next.slice(from);
}
