import { expect, it } from "vitest";

import { appended, MOST_LINES } from "./log";

it("keeps the newest lines and never more than enough", () => {
  let lines: readonly string[] = [];
  for (let n = 0; n < 300; n++)
    lines = appended(
      lines,
      Array.from({ length: 50 }, (_, i) => `${n}.${i}`),
    );
  expect([lines.length, lines.at(-1)]).toEqual([MOST_LINES, "299.49"]);
  expect(appended(lines, [])).toBe(lines);
});
