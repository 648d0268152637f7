// HTTP to one sidecar: calls with the token, and the event stream with its cursor. The token never leaves this file but
// in a header to loopback.
import { Agent, type IncomingMessage, request } from "node:http";
import { StringDecoder } from "node:string_decoder";

import type { CallFailure, StreamMessage } from "../preload/bridge";
import { MessageParser } from "../renderer/client/sse";

const CALL_TIMEOUT_MS = 60_000;
const HOST = "127.0.0.1";

export class CallFailed extends Error {
  override readonly name = "CallFailed";

  constructor(readonly failure: CallFailure) {
    super(failure.message);
  }
}

interface RpcReply {
  result?: unknown;
  error?: { code: number; message: string; data?: { kind?: string } };
}

/** Told with each message: the cursor from which to read on, where it has one. */
export type Emit = (message: StreamMessage, cursor: string | null) => void;

export class Connection {
  private readonly agent = new Agent({ keepAlive: true, maxSockets: 32 });
  private nextId = 1;

  constructor(
    readonly port: number,
    private readonly token: string,
  ) {}

  /** The result of a call. Rejects with CallFailed. */
  async call(method: string, params: object = {}, timeoutMs = CALL_TIMEOUT_MS): Promise<unknown> {
    const body = JSON.stringify({ jsonrpc: "2.0", id: this.nextId++, method, params });
    let text: string;
    try {
      text = await this.exchange("POST", "/rpc", timeoutMs, body);
    } catch {
      throw new CallFailed({ kind: "unreachable", message: "The sidecar does not answer.", code: null });
    }
    const reply = parsed(text);
    if (reply === null) {
      throw new CallFailed({ kind: "internal_error", message: "The sidecar's answer is not JSON-RPC.", code: null });
    }
    if (reply.error) {
      const { code, message, data } = reply.error;
      throw new CallFailed({ kind: data?.kind ?? "internal_error", message, code });
    }
    return reply.result;
  }

  /** Whether it answers in time. */
  async healthy(timeoutMs: number): Promise<boolean> {
    try {
      return (JSON.parse(await this.exchange("GET", "/health", timeoutMs)) as { status?: string }).status === "ok";
    } catch {
      return false;
    }
  }

  /**
   * Read the event stream until it ends, for whatever reason, or `over` is aborted. `heard` is called for every byte
   * that comes, so that the caller can tell a silent stream from a quiet one.
   */
  follow(
    topics: readonly string[],
    cursor: string | null,
    emit: Emit,
    heard: () => void,
    over: AbortSignal,
  ): Promise<void> {
    return new Promise((resolve) => {
      const headers = { ...this.headers(), ...(cursor === null ? {} : { "Last-Event-ID": cursor }) };
      const path = `/events?topics=${topics.join(",")}`;
      const asked = request({ host: HOST, port: this.port, path, headers, signal: over }, (response) => {
        if (response.statusCode === 200) read(response, emit, heard);
        else response.resume();
        response.once("close", resolve);
      });
      asked.once("error", () => resolve());
      asked.end();
    });
  }

  close(): void {
    this.agent.destroy();
  }

  private headers(): Record<string, string> {
    return { Authorization: `Bearer ${this.token}` };
  }

  private exchange(method: string, path: string, timeoutMs: number, body?: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const headers =
        body === undefined
          ? this.headers()
          : {
              ...this.headers(),
              "Content-Type": "application/json",
              "Content-Length": String(Buffer.byteLength(body)),
            };
      const asked = request({ host: HOST, port: this.port, path, method, headers, agent: this.agent }, (response) => {
        const pieces: Buffer[] = [];
        response.on("data", (piece: Buffer) => pieces.push(piece));
        response.once("end", () => {
          const text = Buffer.concat(pieces).toString("utf8");
          if (response.statusCode === 200) resolve(text);
          else reject(new Error(`HTTP ${response.statusCode ?? 0}`));
        });
        response.once("error", reject);
      });
      asked.setTimeout(timeoutMs, () => asked.destroy(new Error("timed out")));
      asked.once("error", reject);
      asked.end(body);
    });
  }
}

function parsed(text: string): RpcReply | null {
  try {
    const reply = JSON.parse(text) as unknown;
    return typeof reply === "object" && reply !== null ? reply : null;
  } catch {
    return null;
  }
}

function read(response: IncomingMessage, emit: Emit, heard: () => void): void {
  const decoder = new StringDecoder("utf8");
  const parser = new MessageParser(({ id, event, data }) => {
    if (event === "ready") emit({ type: "opened", gap: false }, id);
    else if (event === "resync") emit({ type: "opened", gap: true }, id);
    else emit({ type: "event", id, topic: event, data: JSON.parse(data) as Record<string, unknown> }, id);
  });
  response.on("data", (piece: Buffer) => {
    heard();
    parser.feed(decoder.write(piece));
  });
  response.on("error", () => undefined); // its close follows
}
