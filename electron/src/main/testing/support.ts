// What several tests of the main process need: a folder of their own, bounded waiting, and who still lives.
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { onTestFinished } from "vitest";

import type { Backend, Places } from "../backend";
import type { Limits } from "../sidecar";

const here = dirname(fileURLToPath(import.meta.url));
export const CHECKOUT = join(here, "..", "..", "..", "..");

export function folder(): string {
  const made = mkdtempSync(join(tmpdir(), "pumas-shell-"));
  onTestFinished(() => rmSync(made, { recursive: true, force: true, maxRetries: 5 }));
  return made;
}

/** Call `check` until it is truthy; fails when the time is over. */
export async function eventually<T>(
  check: () => T | Promise<T>,
  what: string,
  timeoutMs = 60_000,
): Promise<NonNullable<T>> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`${what} did not come true within ${timeoutMs / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Whether a process runs; one that has ended and that nobody collected does not. */
export function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  const stat = `/proc/${pid}/stat`;
  return !existsSync(stat) || !/\) [ZX] /.test(readFileSync(stat, "utf8"));
}

/** Short waits between tries; what ends a wait is given long, since the machine may be busy. */
export const QUICK: Limits = {
  startMs: 60_000,
  restartAfterMs: [20, 40],
  calmMs: 60_000,
  silenceMs: 300,
  healthMs: 60_000,
  askedMs: 300,
  termMs: 300,
};

/** A backend of testing/backends/behave.mjs, and the pids of all that were started of it. */
export class Misbehaving {
  private readonly pidFile = join(folder(), "pids");

  constructor(private readonly how: string) {}

  readonly choose = (): Backend => ({
    name: "python",
    command: process.execPath,
    args: [join(here, "backends", "behave.mjs"), this.how, this.pidFile],
    cwd: here,
    env: {},
  });

  get pids(): number[] {
    if (!existsSync(this.pidFile)) return [];
    return readFileSync(this.pidFile, "utf8").trim().split("\n").map(Number);
  }

  get alive(): number[] {
    return this.pids.filter(lives);
  }
}

/** The real Python backend, on a root of its own, never reaching out of this machine. */
export function realPlaces(): Places {
  return { code: CHECKOUT, root: folder() };
}

export const NOWHERE = "http://127.0.0.1:9";
export const REAL_VARIABLES: NodeJS.ProcessEnv = {
  ...process.env,
  PUMAS_RUST_BACKEND: "0",
  HF_ENDPOINT: NOWHERE,
  PUMAS_GITHUB_API: NOWHERE,
  PUMAS_OPENER: "true",
};
