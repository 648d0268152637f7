import { expect, test } from "vitest";

import { covers, rangeOf, revealing } from "./rows";

test.each([
  // top, height, rows in all, first, end
  [0, 600, 100_000, 0, 13],
  [0, 600, 3, 0, 3],
  [0, 600, 0, 0, 0],
  [6000, 600, 100_000, 92, 122],
  [6239, 600, 100_000, 92, 122], // as long as less than four rows went by
  [6240, 600, 100_000, 96, 126],
  [99_999 * 60, 600, 100_000, 99_988, 100_000],
  [6000, 600, 20, 20, 20], // the list became short and is not scrolled back yet
  [-50, 600, 100_000, 0, 13], // some browsers bounce
])("scrolled to %i of %i px and %i rows, it shows %i to %i", (top, height, total, first, end) => {
  expect(rangeOf({ top, height }, 60, total)).toEqual({ first, end });
});

test.each([
  [0, 0, 0],
  [9, 0, 0], // the last in view stays where it is
  [10, 0, 60],
  [3, 600, 180],
  [50, 600, 2460],
  [15, 600, 600],
])("row %i is shown from %i px on by scrolling to %i px", (row, top, expected) => {
  expect(revealing(row, { top, height: 600 }, 60)).toBe(expected);
});

test.each([
  // top, first, end, rows in all, covered
  [1200, 20, 30, 100, true],
  [1201, 20, 30, 100, false], // the last is in view with one pixel
  [1199, 20, 30, 100, false],
  [0, 0, 13, 100, true],
  [-50, 0, 13, 100, true], // some browsers bounce
  [5400, 90, 100, 100, true],
  [5450, 90, 100, 100, true],
  [0, 0, 3, 3, true],
  [60_000, 20, 30, 1000, false],
])("scrolled to %i px, rows %i to %i of %i leave no gap: %s", (top, first, end, total, covered) => {
  expect(covers({ first, end }, { top, height: 600 }, 60, total)).toBe(covered);
});
