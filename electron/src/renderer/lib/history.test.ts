import { expect, it } from "vitest";

import { History } from "./history";

it("stays as small as it was made", () => {
  const history = new History(2, 100);
  for (let n = 0; n < 10_000; n++) history.add(n, [n, null]);
  expect(history.length).toBe(100);
  const [times, first, second] = history.data();
  expect([times[0], times.at(-1), first?.length, second?.[0]]).toEqual([9900, 9999, 100, null]);
  expect(history.newest).toBe(9999);
});

it("gives its points away as copies", () => {
  const history = new History(1, 10);
  history.add(1, [1]);
  const [times] = history.data();
  times.push(2);
  expect(history.length).toBe(1);
});
