// The transport of a browser page: `POST /rpc` and one streamed `GET /events`, both with the token.
import { CallError } from "./errors";
import type { Session } from "./session";
import { MessageParser } from "./sse";
import { LOAD_TOPIC, TOPICS } from "./topics";
import type { ClosedReason, MethodName, PumasEvent, StreamHandlers, Transport } from "./types";

const RETRY_MS = [250, 500, 1000, 2000, 4000];
/** The sidecar sends something every 20 s; a stream that is silent for longer is dead. */
const SILENCE_MS = 50_000;

const UPLOAD_ERRORS: Readonly<Record<number, string>> = { 401: "unauthorized", 503: "busy", 507: "disk_full" };

interface RpcError {
  code: number;
  message: string;
  data?: { kind?: string };
}

export class HttpTransport implements Transport {
  private nextId = 1;
  private withLoad = false;
  private restart: () => void = () => undefined;

  constructor(private readonly session: Session) {}

  async call(method: MethodName, params: object, signal?: AbortSignal): Promise<unknown> {
    const body = JSON.stringify({ jsonrpc: "2.0", id: this.nextId++, method, params });
    const send = () => this.fetch("rpc", { method: "POST", body, ...(signal && { signal }) });
    let response = await send();
    if (response.status === 401 && (await this.session.askTabs())) response = await send();
    if (response.status === 401) throw new CallError("unauthorized", "This page has no valid token.");
    if (!response.ok) throw new CallError("operation_failed", await response.text());
    const reply = (await response.json()) as { result?: unknown; error?: RpcError };
    if (reply.error) throw new CallError(reply.error.data?.kind ?? "internal_error", reply.error.message);
    return reply.result;
  }

  private async fetch(path: string, init: RequestInit): Promise<Response> {
    const headers: Record<string, string> = { ...(init.headers as Record<string, string>) };
    if (init.body) headers["Content-Type"] = "application/json";
    if (this.session.token !== null) headers.Authorization = `Bearer ${this.session.token}`;
    try {
      return await fetch(path, { ...init, headers, cache: "no-store" });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw new CallError("unreachable", "The sidecar does not answer.");
    }
  }

  place(
    file: File,
    name: string,
    batch: string,
    progress: (bytes: number) => void,
    signal: AbortSignal,
  ): Promise<string> {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest(); // fetch tells nothing of how far an upload is
      request.open("POST", `uploads?${new URLSearchParams({ batch, name }).toString()}`);
      request.setRequestHeader("Content-Type", "application/octet-stream");
      if (this.session.token !== null) request.setRequestHeader("Authorization", `Bearer ${this.session.token}`);
      request.upload.onprogress = (event) => progress(event.loaded);
      request.onerror = () => reject(new CallError("unreachable", "The sidecar does not answer."));
      request.onabort = () => reject(new CallError("cancelled", "Cancelled."));
      request.onload = () => {
        if (request.status !== 201)
          reject(new CallError(UPLOAD_ERRORS[request.status] ?? "invalid_input", request.responseText));
        else resolve((JSON.parse(request.responseText) as { path: string }).path);
      };
      signal.addEventListener("abort", () => request.abort());
      request.send(file);
    });
  }

  followLoad(on: boolean): void {
    if (this.withLoad === on) return;
    this.withLoad = on;
    this.restart();
  }

  follow(handlers: StreamHandlers): () => void {
    const over = new AbortController();
    void this.readForEver(handlers, over.signal);
    return () => over.abort();
  }

  private async readForEver(handlers: StreamHandlers, over: AbortSignal): Promise<void> {
    let cursor: string | null = null;
    let failures = 0;
    const isOver = () => over.aborted;
    while (!isOver()) {
      const connection = new AbortController();
      const unwanted = new AbortController();
      this.restart = () => {
        unwanted.abort();
        connection.abort();
      };
      const stop = () => connection.abort();
      over.addEventListener("abort", stop);
      const reason: ClosedReason = await this.read(cursor, connection, (event) => {
        failures = 0;
        if (event.id !== null) cursor = event.id;
        if (event.topic === "ready") handlers.opened(false);
        else if (event.topic === "resync") handlers.opened(true);
        else handlers.event(event);
      });
      over.removeEventListener("abort", stop);
      if (isOver() || unwanted.signal.aborted) continue;
      handlers.closed(reason);
      if (reason === "unauthorized") await this.session.askTabs();
      await pause(RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)] ?? 0, over);
    }
  }

  /** One connection; returns why it ended, never raises. */
  private async read(cursor: string | null, connection: AbortController, emit: (event: PumasEvent) => void) {
    const topics = (this.withLoad ? [...TOPICS, LOAD_TOPIC] : TOPICS).join(",");
    const headers: Record<string, string> = cursor === null ? {} : { "Last-Event-ID": cursor };
    let silence: ReturnType<typeof setTimeout> | undefined;
    const alive = () => {
      clearTimeout(silence);
      silence = setTimeout(() => connection.abort(), SILENCE_MS);
    };
    try {
      alive();
      const response = await this.fetch(`events?topics=${topics}`, { headers, signal: connection.signal });
      if (response.status === 401) return "unauthorized";
      if (!response.ok || response.body === null) return "unreachable";
      const parser = new MessageParser(({ id, event, data }) =>
        emit({ id, topic: event, data: JSON.parse(data) as Record<string, unknown> }),
      );
      const decoder = new TextDecoder();
      const reader = response.body.getReader();
      for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
        alive();
        parser.feed(decoder.decode(piece.value, { stream: true }));
      }
    } catch {
      // Cut, aborted or unreachable: the caller tries again from its cursor.
    } finally {
      clearTimeout(silence);
      connection.abort();
    }
    return "unreachable";
  }
}

function pause(ms: number, over: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      over.removeEventListener("abort", done);
      removeEventListener("online", done);
      resolve();
    }
    over.addEventListener("abort", done);
    addEventListener("online", done);
  });
}
