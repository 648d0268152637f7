// Keeps one sidecar running: starts it with a fresh token, watches it, starts it again a bounded number of times, and
// stops it so that nothing is left behind. Windows, menus and the page know only `SidecarState`.
import { randomBytes } from "node:crypto";
import { EventEmitter } from "node:events";

import type { SidecarState } from "../preload/bridge";
import { type Backend, BackendMissing } from "./backend";
import { Child, type Exit, StartFailed, type StopTimes } from "./child";
import { Connection } from "./connection";

export interface Limits extends StopTimes {
  readonly startMs: number;
  /** Waits before each new start; when they are used up it has failed for good. */
  readonly restartAfterMs: readonly number[];
  /** After running for so long, the next failure counts as the first one again. */
  readonly calmMs: number;
  /** Silence of the event stream after which the sidecar is asked whether it lives; it writes every 20 s. */
  readonly silenceMs: number;
  readonly healthMs: number;
}

export const LIMITS: Limits = {
  startMs: 30_000,
  restartAfterMs: [500, 1000, 2000, 4000, 8000],
  calmMs: 60_000,
  silenceMs: 45_000,
  healthMs: 5000,
  askedMs: 3000,
  termMs: 5000,
};

/** Exit statuses that another try would not change: wrong usage, another sidecar owns the root. */
const FINAL_STATUS = new Set([2, 3]);
const HEALTH_TRIES = 3;

interface Events {
  state: [SidecarState];
  connected: [Connection];
}

export class Sidecar extends EventEmitter<Events> {
  private current: SidecarState = { phase: "stopped" };
  private child: Child | null = null;
  private link: Connection | null = null;
  private wake: (() => void) | null = null;
  private running: Promise<void> | null = null;
  private stopping = false;

  constructor(
    private readonly choose: () => Backend,
    private readonly variables: NodeJS.ProcessEnv = process.env,
    private readonly limits: Limits = LIMITS,
  ) {
    super();
  }

  get state(): SidecarState {
    return this.current;
  }

  /** Where to call it, while it runs. */
  get connection(): Connection | null {
    return this.link;
  }

  get pid(): number | undefined {
    return this.child?.pid;
  }

  /** Start and keep running; also after it has failed for good. Returns at once. */
  start(): void {
    if (this.running !== null) return;
    this.stopping = false;
    this.running = this.keepRunning().finally(() => (this.running = null));
  }

  /** Stop for good; returns when the process is gone. Twice is harmless. */
  async stop(): Promise<void> {
    this.stopping = true;
    this.wake?.();
    const { child, link } = this;
    await child?.stop(() => link?.call("shutdown") ?? Promise.resolve(), this.limits);
    await this.running;
  }

  /** The event stream has been silent for too long: find out whether it hangs, and end it when it does. */
  async suspect(): Promise<void> {
    const { child, link } = this;
    for (let tries = 0; tries < HEALTH_TRIES; tries++) {
      if (child === null || link === null || child.ended || (await link.healthy(this.limits.healthMs))) return;
    }
    await child?.kill();
  }

  get silenceMs(): number {
    return this.limits.silenceMs;
  }

  private async keepRunning(): Promise<void> {
    for (let attempt = 0; !this.stopping;) {
      this.become({ phase: "starting" });
      const begun = Date.now();
      const failure = await this.runOnce();
      if (this.over()) break;
      if (Date.now() - begun > this.limits.calmMs) attempt = 0;
      const delayMs = this.limits.restartAfterMs[attempt++];
      const { reason, log } = failure;
      if (failure.final || delayMs === undefined) {
        this.become({ phase: "failed", reason, log });
        return;
      }
      this.become({ phase: "restarting", attempt, delayMs, reason, log });
      await this.pause(delayMs);
    }
    this.become({ phase: "stopped" });
  }

  /** One life of one process, from start to end. */
  private async runOnce(): Promise<{ reason: string; log: string[]; final: boolean }> {
    const token = randomBytes(32).toString("base64url");
    let child: Child;
    try {
      child = new Child(this.choose(), token, this.variables);
    } catch (error) {
      return { reason: messageOf(error), log: [], final: error instanceof BackendMissing };
    }
    this.child = child;
    let exit: Exit;
    try {
      const link = new Connection(await child.port(this.limits.startMs), token);
      if (!this.over()) {
        this.link = link;
        this.become({ phase: "running", backend: child.backend.name });
        this.emit("connected", link);
      }
      exit = await child.exited;
      link.close();
    } catch (error) {
      const status = error instanceof StartFailed ? error.status : null;
      return { reason: messageOf(error), log: [...child.log], final: status !== null && FINAL_STATUS.has(status) };
    } finally {
      this.link = null;
      this.child = null;
    }
    return { reason: child.lastWords(exit), log: [...child.log], final: FINAL_STATUS.has(exit.code ?? -1) };
  }

  private over(): boolean {
    return this.stopping;
  }

  private pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  private become(state: SidecarState): void {
    this.current = state;
    this.emit("state", state);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
