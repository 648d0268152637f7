// One sidecar process: started, heard until it tells its port, stopped in three steps, and always waited for.
// Knows nothing of restarts (`sidecar.ts`).
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";

import type { Backend } from "./backend";

export const TOKEN_VARIABLE = "PUMAS_RPC_TOKEN";
const PORT_LINE = /^RPC_PORT=(\d{1,5})$/;
const LAST_WORDS_MS = 300;
const KEPT_LINES = 60;
const KEPT_LINE_CHARS = 1000;

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface StopTimes {
  /** How long each step is given: after `shutdown`, after TERM. After KILL the wait has no end, for it needs none. */
  readonly askedMs: number;
  readonly termMs: number;
}

export class StartFailed extends Error {
  override readonly name = "StartFailed";

  constructor(
    message: string,
    readonly log: readonly string[],
    /** The exit status, when it ended by itself. */
    readonly status: number | null = null,
  ) {
    super(message);
  }
}

export class Child {
  /** Settled when the process is really gone; never rejected. */
  readonly exited: Promise<Exit>;
  private readonly process: ChildProcess;
  private readonly lines: string[] = [];
  private readonly announced: Promise<number>;
  private spawnError: Error | null = null;
  private over = false;

  constructor(
    readonly backend: Backend,
    readonly token: string,
    variables: NodeJS.ProcessEnv,
  ) {
    this.process = spawn(backend.command, backend.args, {
      cwd: backend.cwd,
      env: { ...variables, ...backend.env, [TOKEN_VARIABLE]: token },
      stdio: ["ignore", "pipe", "pipe"],
      // Ctrl-C in a terminal reaches its whole group; the shell decides when its sidecar ends.
      detached: process.platform !== "win32",
      windowsHide: true,
    });
    this.exited = new Promise((resolve) => {
      const end = (code: number | null, signal: NodeJS.Signals | null) => {
        this.over = true;
        // Its last words may still be in the pipe; a grandchild that holds the pipe must not keep us waiting.
        const settle = () => resolve({ code, signal });
        this.process.once("close", settle);
        setTimeout(settle, LAST_WORDS_MS).unref();
      };
      this.process.once("exit", end);
      this.process.once("error", (error) => {
        this.spawnError = error;
        if (this.process.pid === undefined) end(null, null);
      });
    });
    this.announced = this.hearPort();
    this.keepStderr();
  }

  get pid(): number | undefined {
    return this.process.pid;
  }

  get ended(): boolean {
    return this.over;
  }

  /** The end of what it wrote to stderr. */
  get log(): readonly string[] {
    return [...this.lines];
  }

  /** The port it listens on. Rejects with StartFailed when it ends before it tells, or takes too long: then it is killed. */
  async port(timeoutMs: number): Promise<number> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"late">((resolve) => (timer = setTimeout(() => resolve("late"), timeoutMs)));
    const first = await Promise.race([this.announced, this.exited, late]);
    clearTimeout(timer);
    if (typeof first === "number") return first;
    if (first === "late") {
      await this.kill();
      throw new StartFailed(`The sidecar told no port within ${timeoutMs / 1000} s.`, this.log);
    }
    throw new StartFailed(this.lastWords(first), this.log, first.code);
  }

  /** How it ended, in a sentence, with the last thing that it said. */
  lastWords({ code, signal }: Exit): string {
    if (this.spawnError !== null) return `The sidecar could not be started: ${this.spawnError.message}`;
    const said = this.lines.findLast((line) => line.trim() !== "");
    const how = signal === null ? `with status ${code}` : `by ${signal}`;
    return `The sidecar ended ${how}${said === undefined ? "." : `: ${said}`}`;
  }

  /** Ask it to end, then tell it, then end it; returns when it is gone. `ask` may fail or never answer. */
  async stop(ask: () => Promise<unknown>, times: StopTimes): Promise<Exit> {
    if (!this.over) {
      ask().catch(() => undefined);
      await this.gone(times.askedMs);
    }
    if (!this.over) {
      this.process.kill("SIGTERM");
      await this.gone(times.termMs);
    }
    return this.kill();
  }

  async kill(): Promise<Exit> {
    if (!this.over) this.process.kill("SIGKILL");
    return this.exited;
  }

  private async gone(withinMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([this.exited, new Promise((resolve) => (timer = setTimeout(resolve, withinMs)))]);
    clearTimeout(timer);
  }

  private hearPort(): Promise<number> {
    return new Promise((resolve) => {
      if (this.process.stdout === null) return;
      // Read to its end, also after the port: a full pipe would stop the sidecar.
      createInterface({ input: this.process.stdout }).on("line", (line) => {
        const port = Number(PORT_LINE.exec(line)?.[1]);
        if (port > 0 && port < 65536) resolve(port);
      });
    });
  }

  private keepStderr(): void {
    if (this.process.stderr === null) return;
    createInterface({ input: this.process.stderr }).on("line", (line) => {
      this.lines.push(line.slice(0, KEPT_LINE_CHARS).replaceAll(this.token, "***"));
      if (this.lines.length > KEPT_LINES) this.lines.shift();
    });
  }
}
