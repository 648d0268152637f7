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

it("goes on from what was stored, and from nothing that is no past", () => {
  const before = new History(2, 10);
  before.add(1, [1, null]);
  before.add(2, [3, 4]);
  const after = new History(2, 10);
  after.goOnFrom(JSON.parse(JSON.stringify(before.data())));
  expect(after.data()).toEqual(before.data());
  after.goOnFrom([
    [1, "x", 3],
    ["y", 5, 6],
  ]);
  expect(after.data()).toEqual([
    [1, 2, 3],
    [1, 3, 6],
    [null, 4, null],
  ]);
  for (const damaged of [null, {}, "", [], [1], [[4], 5]]) after.goOnFrom(damaged);
  expect(after.length).toBe(3);
});
