// What the shell itself remembers, in one small file of the user's. A file that cannot be read means the defaults.
import { readFileSync } from "node:fs";
import { mkdir, rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";

import type { Rectangle } from "electron";

import type { ShellSettings } from "../preload/bridge";

export interface Kept extends ShellSettings {
  place: Rectangle | null;
}

const DEFAULTS: Kept = { openAtLogin: false, keepInTray: true, notifications: true, place: null };
const CHOICES = ["openAtLogin", "keepInTray", "notifications"] as const;

export class Settings {
  private kept: Kept;
  private writing: Promise<void> = Promise.resolve();

  constructor(private readonly file: string) {
    this.kept = { ...DEFAULTS, ...read(file) };
  }

  get place(): Rectangle | null {
    return this.kept.place;
  }

  get shared(): ShellSettings {
    const { openAtLogin, keepInTray, notifications } = this.kept;
    return { openAtLogin, keepInTray, notifications };
  }

  async change(change: Partial<Kept>): Promise<void> {
    this.kept = { ...this.kept, ...change };
    const text = JSON.stringify(this.kept, null, 1);
    // One after the other; a failed one does not stop those that follow.
    this.writing = this.writing.catch(() => undefined).then(() => write(this.file, text));
    await this.writing;
  }
}

/** The choices of a message from the page, nothing else that it may hold. */
export function choices(message: unknown): Partial<ShellSettings> {
  const given = typeof message === "object" && message !== null ? (message as Record<string, unknown>) : {};
  const known = CHOICES.filter((name) => typeof given[name] === "boolean");
  return Object.fromEntries(known.map((name) => [name, given[name]]));
}

function read(file: string): Partial<Kept> {
  let found: unknown;
  try {
    found = JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return {};
  }
  const place = rectangle((found as { place?: unknown } | null)?.place);
  return { ...choices(found), ...(place === null ? {} : { place }) };
}

function rectangle(value: unknown): Rectangle | null {
  if (typeof value !== "object" || value === null) return null;
  const { x, y, width, height } = value as Record<string, unknown>;
  return [x, y, width, height].every(Number.isInteger) ? ({ x, y, width, height } as Rectangle) : null;
}

async function write(file: string, text: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await writeFile(`${file}.new`, text, { mode: 0o600 });
  await rename(`${file}.new`, file);
}
