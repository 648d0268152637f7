import { expect, it } from "vitest";

import { shortNumber, wholeNumber } from "./numbers";

const LANGUAGES = ["en", "en-GB", "en-US", "de", "de-DE"];
const VALUES = [0, 1, 7.5, 12, 99.95, 100, 999, 999.5, 1000, 1024, 12_345, 99_999, 100_000, 1_234_567, 5e14];
const SMALL = [0.001, 0.00123456, 0.0999, 0.5, 0.977, 1 / 3];

it.each(LANGUAGES)("%s is written as Intl writes it", (language) => {
  const whole = new Intl.NumberFormat(language);
  const short = new Intl.NumberFormat(language, { maximumSignificantDigits: 3 });
  for (const value of VALUES.map(Math.floor)) expect(wholeNumber(language, value)).toBe(whole.format(value));
  for (const value of [...VALUES, ...SMALL]) expect(shortNumber(language, value, 3)).toBe(short.format(value));
  for (let value = 1; value < 1e14; value *= 3.7) {
    expect(wholeNumber(language, Math.round(value))).toBe(whole.format(Math.round(value)));
    expect(shortNumber(language, value, 3)).toBe(short.format(value));
  }
});

it("leaves to Intl what it does not know", () => {
  for (const [language, value] of [
    ["de-CH", 1],
    ["en-IN", 123_456],
    ["en", -1],
    ["en", Number.NaN],
    ["en", Infinity],
    ["en", 1e16],
  ] as const) {
    expect(wholeNumber(language, value), `${language} ${value}`).toBeUndefined();
    expect(shortNumber(language, value, 3), `${language} ${value}`).toBeUndefined();
  }
  expect(wholeNumber("en", 1.5)).toBeUndefined();
  expect(shortNumber("en", 1e-5, 3)).toBeUndefined();
});
