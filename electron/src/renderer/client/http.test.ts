import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { HttpTransport } from "./http";
import type { Session } from "./session";
import { TOPICS } from "./topics";
import type { PumasEvent, StreamHandlers } from "./types";

interface Request {
  path: string;
  headers: Record<string, string>;
  body: unknown;
  signal: AbortSignal | undefined;
}

/** A sidecar that answers each request with the next of the prepared answers, and then never. */
class Sidecar {
  readonly requests: Request[] = [];
  readonly answers: ((request: Request) => Response | Promise<Response>)[] = [];

  readonly fetch = (path: string, init: RequestInit): Promise<Response> => {
    const headers = init.headers as Record<string, string>;
    const body = typeof init.body === "string" ? (JSON.parse(init.body) as unknown) : undefined;
    const request = { path, headers, body, signal: init.signal ?? undefined };
    this.requests.push(request);
    const answer = this.answers.shift();
    if (answer) return Promise.resolve(answer(request));
    return new Promise((_, reject) => {
      init.signal?.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
    });
  };

  get last(): Request {
    const request = this.requests.at(-1);
    if (!request) throw new Error("nothing was asked");
    return request;
  }
}

function result(value: unknown): () => Response {
  return () => Response.json({ jsonrpc: "2.0", id: 1, result: value });
}

/** An event stream: `emit` writes, `end` cuts. Ends with its request too. */
function stream() {
  let controller!: ReadableStreamDefaultController<Uint8Array>;
  const body = new ReadableStream<Uint8Array>({ start: (made) => void (controller = made) });
  let open = true;
  const end = () => {
    if (open) controller.close();
    open = false;
  };
  return {
    answer: (request: Request) => {
      request.signal?.addEventListener("abort", end);
      return new Response(body);
    },
    emit: (text: string) => controller.enqueue(new TextEncoder().encode(text)),
    end,
  };
}

function session(token: string | null, others: string | null = null): Session {
  const fake = {
    token,
    askTabs: vi.fn(() => {
      if (others === null || others === fake.token) return Promise.resolve(false);
      fake.token = others;
      return Promise.resolve(true);
    }),
  };
  return fake as unknown as Session;
}

function recorder() {
  const heard: string[] = [];
  const handlers: StreamHandlers = {
    event: ({ topic, id }: PumasEvent) => heard.push(`${topic} ${id}`),
    opened: (gap) => heard.push(gap ? "gap" : "opened"),
    closed: (reason) => heard.push(reason),
  };
  return { heard, handlers };
}

/** Wait for what must come true; the bound only ends the test. */
const soon = (check: () => void) => vi.waitFor(check, { timeout: 30_000, interval: 5 });

let sidecar: Sidecar;
beforeEach(() => {
  sidecar = new Sidecar();
  vi.stubGlobal("fetch", sidecar.fetch);
});
afterEach(() => vi.unstubAllGlobals());

describe("calls", () => {
  it("carry method, parameters and token", async () => {
    sidecar.answers.push(result({ status: "ok" }));
    const reply = await new HttpTransport(session("secret")).call("health_check", { a: 1 });
    expect(reply).toEqual({ status: "ok" });
    expect(sidecar.last).toMatchObject({
      path: "rpc",
      headers: { Authorization: "Bearer secret", "Content-Type": "application/json" },
      body: { jsonrpc: "2.0", method: "health_check", params: { a: 1 } },
    });
  });

  it("carry no token where there is none", async () => {
    sidecar.answers.push(result(true));
    await new HttpTransport(session(null)).call("check_git", {});
    expect(sidecar.last.headers).not.toHaveProperty("Authorization");
  });

  it("raise what a JSON-RPC error says", async () => {
    sidecar.answers.push(() =>
      Response.json({ error: { code: -32005, message: "Bad tag.", data: { kind: "invalid_input" } } }),
    );
    await expect(new HttpTransport(session(null)).call("is_patched", {})).rejects.toMatchObject({
      kind: "invalid_input",
      message: "Bad tag.",
    });
  });

  it("ask the other tabs for a token once, and then give up", async () => {
    sidecar.answers.push(() => new Response("", { status: 401 }), result(true));
    expect(await new HttpTransport(session("old", "new")).call("check_git", {})).toBe(true);
    expect(sidecar.last.headers.Authorization).toBe("Bearer new");
    sidecar.answers.push(() => new Response("", { status: 401 }));
    await expect(new HttpTransport(session("old")).call("check_git", {})).rejects.toMatchObject({
      kind: "unauthorized",
    });
  });

  it("say when nobody answers", async () => {
    sidecar.answers.push(() => Promise.reject(new TypeError("failed")));
    await expect(new HttpTransport(session(null)).call("check_git", {})).rejects.toMatchObject({ kind: "unreachable" });
  });
});

describe("the event stream", () => {
  it("goes on from its cursor after a cut, and says when something was missed", async () => {
    const first = stream();
    const second = stream();
    sidecar.answers.push(first.answer, second.answer);
    const { heard, handlers } = recorder();
    const end = new HttpTransport(session("secret")).follow(handlers);
    await soon(() => expect(sidecar.requests).toHaveLength(1));
    expect(sidecar.last.path).toBe(`events?topics=${TOPICS.join(",")}`);
    expect(sidecar.last.headers).toEqual({ Authorization: "Bearer secret" });
    first.emit('id: 5\nevent: ready\ndata: {}\n\nid: 6\nevent: job.state\ndata: {"job_id":"a"}\n\n');
    await soon(() => expect(heard).toEqual(["opened", "job.state 6"]));
    first.end();
    await soon(() => expect(sidecar.requests).toHaveLength(2));
    expect(sidecar.last.headers).toMatchObject({ "Last-Event-ID": "6" });
    second.emit("id: 9\nevent: ready\ndata: {}\n\nid: 9\nevent: resync\ndata: {}\n\n");
    await soon(() => expect(heard).toEqual(["opened", "job.state 6", "unreachable", "opened", "gap"]));
    end();
    await soon(() => expect(sidecar.last.signal?.aborted).toBe(true));
  });

  it("names the load's topic only while it is wanted, without losing a word", async () => {
    const streams = [stream(), stream(), stream()];
    sidecar.answers.push(...streams.map(({ answer }) => answer));
    const { heard, handlers } = recorder();
    const transport = new HttpTransport(session(null));
    const end = transport.follow(handlers);
    await soon(() => expect(sidecar.requests).toHaveLength(1));
    streams[0]?.emit("id: 3\nevent: ready\ndata: {}\n\n");
    await soon(() => expect(heard).toEqual(["opened"]));
    transport.followLoad(true);
    await soon(() => expect(sidecar.requests).toHaveLength(2));
    expect(sidecar.last.path).toBe(`events?topics=${TOPICS.join(",")},system`);
    expect(sidecar.last.headers).toEqual({ "Last-Event-ID": "3" });
    transport.followLoad(false);
    await soon(() => expect(sidecar.requests).toHaveLength(3));
    expect(sidecar.last.path).not.toContain("system");
    expect(heard, "a change of topics is no lost connection").toEqual(["opened"]);
    end();
  });

  it("says that it is not allowed in", async () => {
    sidecar.answers.push(() => new Response("", { status: 401 }));
    const { heard, handlers } = recorder();
    const end = new HttpTransport(session("wrong")).follow(handlers);
    await soon(() => expect(heard).toEqual(["unauthorized"]));
    end();
  });
});
