// Numbers as people read them. All sizes are bytes unless a name says otherwise.
import { shortNumber, wholeNumber } from "./numbers";

const DIGITS = 3;
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** `make`, called at the first call of the result and never again. */
export function once<T>(make: () => T): () => T {
  let made: { value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}

/** `language` without its region: 8B also where a billion is bn. */
function compactNumbers(language: string): Intl.NumberFormat {
  return new Intl.NumberFormat(language, { notation: "compact", maximumFractionDigits: 1 });
}

export class Formats {
  // Each takes a browser milliseconds to make, so each is made when it is first needed.
  private readonly whole = once(() => new Intl.NumberFormat(this.language));
  private readonly short = once(() => new Intl.NumberFormat(this.language, { maximumSignificantDigits: DIGITS }));
  private readonly compact = once(() => compactNumbers(this.language.slice(0, 2)));
  private readonly billions = once(() => compactNumbers("en"));
  private readonly moment = once(
    () => new Intl.DateTimeFormat(this.language, { dateStyle: "medium", timeStyle: "short" }),
  );
  private readonly relative = once(() => new Intl.RelativeTimeFormat(this.language, { numeric: "auto" }));

  constructor(readonly language: string) {}

  count(value: number): string {
    return wholeNumber(this.language, value) ?? this.whole().format(value);
  }

  compactCount(value: number): string {
    return this.compact().format(value);
  }

  /** How large a model is: 8B in every language, as its name says too. */
  parameters(value: number): string {
    return this.billions().format(value);
  }

  bytes(size: number): string {
    let unit = 0;
    while (size >= 1000 && unit < UNITS.length - 1) {
      size /= 1024;
      unit++;
    }
    return `${this.decimal(unit === 0 ? Math.round(size) : size)} ${UNITS[unit] ?? ""}`;
  }

  percent(part: number): string {
    return `${this.count(Math.floor(part * 100))} %`;
  }

  decimal(value: number): string {
    return shortNumber(this.language, value, DIGITS) ?? this.short().format(value);
  }

  /** A length of time, in its two largest units. */
  duration(seconds: number): string {
    const left = Math.max(0, Math.round(seconds));
    const parts = [
      [Math.floor(left / 86_400), "d"],
      [Math.floor(left / 3600) % 24, "h"],
      [Math.floor(left / 60) % 60, "min"],
      [left % 60, "s"],
    ] as const;
    const first = parts.findIndex(([value]) => value > 0);
    if (first < 0) return "0 s";
    const shown = parts.slice(first, first + 2).filter(([value]) => value > 0);
    return shown.map(([value, unit]) => `${this.count(value)} ${unit}`).join(" ");
  }

  /** A time stamp of the sidecar (ISO-8601, UTC) in the reader's own time zone. */
  date(iso: string): string {
    const date = new Date(iso);
    return Number.isNaN(date.getTime()) ? iso : this.moment().format(date);
  }

  ago(iso: string, now = Date.now()): string {
    const seconds = (new Date(iso).getTime() - now) / 1000;
    if (Number.isNaN(seconds)) return iso;
    const steps: [Intl.RelativeTimeFormatUnit, number][] = [
      ["day", 86_400],
      ["hour", 3600],
      ["minute", 60],
    ];
    const [unit, length] = steps.find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
    return this.relative().format(Math.round(seconds / length), unit);
  }
}
