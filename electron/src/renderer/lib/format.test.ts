import { expect, it } from "vitest";

import { Formats } from "./format";

const en = new Formats("en");
const de = new Formats("de");
const plain = (text: string) => text.replace(/\u202f|\u00a0/g, " ");

it.each([
  [0, "0 B"],
  [999, "999 B"],
  [1000, "0.977 KiB"],
  [1024 ** 2, "1 MiB"],
  [4.58 * 1024 ** 3, "4.58 GiB"],
  [1024 ** 6, "1,020 PiB"],
])("%d bytes", (size, text) => {
  expect(en.bytes(size)).toBe(text);
});

it("writes numbers as the language does", () => {
  expect(de.bytes(1.5 * 1024 ** 2)).toBe("1,5 MiB");
  expect(de.count(1234567)).toBe("1.234.567");
});

it.each([
  [0, "0 s"],
  [-5, "0 s"],
  [59.4, "59 s"],
  [61, "1 min 1 s"],
  [3600, "1 h"],
  [90_061, "1 d 1 h"],
])("%d seconds", (seconds, text) => {
  expect(en.duration(seconds)).toBe(text);
});

it("says how large a model is as its name does, in every language", () => {
  expect([de.parameters(8_030_261_248), de.parameters(1_500_000_000), de.parameters(28_672)]).toEqual([
    "8B",
    "1.5B",
    "28.7K",
  ]);
  expect(new Formats("en-GB").parameters(8_030_261_248)).toBe("8B");
});

it("never shows a part as whole before it is", () => {
  expect(plain(en.percent(0.999))).toBe("99 %");
});

it("says how long ago", () => {
  const now = Date.parse("2030-01-02T12:00:00Z");
  expect(en.ago("2030-01-02T11:59:30Z", now)).toBe("30 seconds ago");
  expect(en.ago("2030-01-02T09:00:00.000001Z", now)).toBe("3 hours ago");
  expect(de.ago("2030-01-01T12:00:00Z", now)).toBe("gestern");
  expect(en.ago("never", now)).toBe("never");
});
