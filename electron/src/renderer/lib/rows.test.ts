import { expect, test } from "vitest";

import { rangeOf, revealing } from "./rows";

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
