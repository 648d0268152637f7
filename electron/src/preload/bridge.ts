// What the page sees of the desktop shell: `window.pumas`. Types only, shared by preload, main process and page.
import type { Method } from "./methods";

/** `kind` is an entry of contracts/errors.json, or `unreachable`. */
export interface CallFailure {
  kind: string;
  message: string;
  code: number | null;
}

/** Errors lose their fields between the worlds, so an answer says which of the two it is. */
export type Answer = { ok: true; result: unknown } | { ok: false; error: CallFailure };

export type StreamMessage =
  | { type: "event"; id: string | null; topic: string; data: Record<string, unknown> }
  /** `gap`: events may have been missed; load anew what is shown. */
  | { type: "opened"; gap: boolean }
  | { type: "closed"; reason: "unreachable" };

export type SidecarState =
  | { phase: "starting" }
  | { phase: "running"; backend: string }
  | { phase: "restarting"; attempt: number; delayMs: number; reason: string; log: string[] }
  /** It will not start again by itself; `log` is the end of what it wrote. */
  | { phase: "failed"; reason: string; log: string[] }
  | { phase: "stopped" };

export interface ShellSettings {
  openAtLogin: boolean;
  /** Closing the window leaves downloads and apps to the tray. */
  keepInTray: boolean;
  notifications: boolean;
}

export interface PumasBridge {
  call(method: Method, params: object): Promise<Answer>;
  /** Follow the one event stream; the shell reconnects it. Returns how to end. */
  follow(listener: (message: StreamMessage) => void): () => void;
  /** Whether events about the machine's load are wanted too. */
  followLoad(on: boolean): void;
  sidecar(): Promise<SidecarState>;
  onSidecar(listener: (state: SidecarState) => void): () => void;
  /** Start anew after it has failed for good. */
  restartSidecar(): Promise<void>;
  /** Absolute paths; none when the person cancelled. */
  chooseFiles(): Promise<string[]>;
  chooseFolder(): Promise<string[]>;
  /** Where a dropped file lies; empty when it is none on disk. */
  pathOf(file: File): string;
  settings(): Promise<ShellSettings>;
  changeSettings(change: Partial<ShellSettings>): Promise<ShellSettings>;
}

declare global {
  interface Window {
    /** Only in the desktop shell. */
    readonly pumas?: PumasBridge;
  }
}
