import { expect, it } from "vitest";

import { MOST_LINES, appended, type Block } from "./log";

const lines = (blocks: readonly Block[]) => blocks.flatMap((block) => block.lines);
const numbers = (from: number, count: number) => Array.from({ length: count }, (_, place) => String(from + place));

it("keeps the last lines, and some more at most", () => {
  let blocks: readonly Block[] = [];
  for (let at = 0; at < 20_000; at += 400) blocks = appended(blocks, numbers(at, 400));
  expect(lines(blocks).at(-1)).toBe("19999");
  expect(lines(blocks).length).toBeGreaterThanOrEqual(MOST_LINES);
  expect(lines(blocks).length).toBeLessThan(MOST_LINES + 400);
  expect(lines(appended(blocks, numbers(0, 3 * MOST_LINES)))).toEqual(numbers(2 * MOST_LINES, MOST_LINES));
});

it("leaves what was there as it is", () => {
  const first = appended(appended([], numbers(0, 400)), numbers(400, 400));
  const next = appended(first, numbers(800, 1));
  expect(next.slice(0, 2)).toEqual(first);
  expect(next[0]).toBe(first[0]);
  expect(next[1]).toBe(first[1]);
  expect(new Set(next.map(({ id }) => id)).size).toBe(3);
});

it("makes few blocks of little", () => {
  let blocks: readonly Block[] = [];
  for (let at = 0; at < 1000; at++) blocks = appended(blocks, [String(at)]);
  expect(blocks.length).toBe(5);
  expect(lines(blocks)).toEqual(numbers(0, 1000));
  expect(appended(blocks, [])).toBe(blocks);
});
