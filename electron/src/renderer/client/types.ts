// What the contract says, in the forms that the page uses.
import type { Methods } from "@contract";

export type MethodName = keyof Methods;
export type Params<M extends MethodName> = Methods[M]["params"];
export type Reply<M extends MethodName> = Methods[M]["result"];
type Failure = { success: false; error: string; error_code: string };

/** A reply that is not the failure form of an envelope. */
export type Ok<M extends MethodName> = Exclude<Reply<M>, Failure>;

export interface PumasEvent {
  /** Cursor; events that are never replayed repeat the one before them. */
  id: string | null;
  topic: string;
  data: Record<string, unknown>;
}

/** How the page reaches the sidecar: through the desktop shell's preload, or by HTTP in a browser. */
export interface Transport {
  /** Resolves with the result; rejects with a `CallError`. */
  call(method: MethodName, params: object, signal?: AbortSignal): Promise<unknown>;
  /** Follow the one event stream for ever. */
  follow(handlers: StreamHandlers): () => void;
  /**
   * Where a dropped file lies on the sidecar's disk; a browser page has to hand its bytes over for that. `name` may
   * have folders in it; files of one `batch` lie beside each other.
   */
  place(
    file: File,
    name: string,
    batch: string,
    progress: (bytes: number) => void,
    signal: AbortSignal,
  ): Promise<string>;
  /** Whether the load of the machine is wanted too; it costs the sidecar some work. */
  followLoad(on: boolean): void;
}

export interface StreamHandlers {
  event(event: PumasEvent): void;
  /** `gap`: events may have been missed, so everything that is shown has to be loaded anew. */
  opened(gap: boolean): void;
  closed(reason: ClosedReason): void;
}

export type ClosedReason = "unreachable" | "unauthorized";
