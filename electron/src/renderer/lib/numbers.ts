// Numbers in the languages that the page speaks, without `Intl`: the first formatter of a page costs a browser tens of
// milliseconds, in the middle of the first view.

/** Between thousands, and before decimals. Tags that are not here are left to `Intl`. */
const SIGNS: Readonly<Record<string, { group: string; decimal: string }>> = {
  en: { group: ",", decimal: "." },
  "en-GB": { group: ",", decimal: "." },
  "en-US": { group: ",", decimal: "." },
  de: { group: ".", decimal: "," },
  "de-DE": { group: ".", decimal: "," },
};
const LEAST = 1e-3;
const MOST = 1e15;

/** A whole number, grouped; undefined where only `Intl` knows. */
export function wholeNumber(language: string, value: number): string | undefined {
  const signs = SIGNS[language];
  if (signs === undefined || !Number.isInteger(value) || value < 0 || value > MOST) return undefined;
  return grouped(String(value), signs.group);
}

/** A number with so many digits that matter; undefined where only `Intl` knows. */
export function shortNumber(language: string, value: number, digits: number): string | undefined {
  const signs = SIGNS[language];
  if (signs === undefined || !(value === 0 || (value >= LEAST && value <= MOST))) return undefined;
  const [whole = "", part] = String(Number(value.toPrecision(digits))).split(".");
  return grouped(whole, signs.group) + (part === undefined ? "" : signs.decimal + part);
}

function grouped(digits: string, sign: string): string {
  return digits.replace(/\B(?=(\d{3})+$)/g, sign);
}
