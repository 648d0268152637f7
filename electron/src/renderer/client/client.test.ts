import { QueryObserver } from "@tanstack/react-query";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { OF_TOPIC, affectedBy } from "./affected";
import { Client } from "./client";
import { CallError } from "./errors";
import { callOptions } from "./hooks";
import { TOPICS } from "./topics";
import type { MethodName, PumasEvent, StreamHandlers, Transport } from "./types";

class FakeTransport implements Transport {
  readonly calls: string[] = [];
  readonly load: boolean[] = [];
  handlers!: StreamHandlers;
  reply: (method: MethodName) => unknown = () => ({ success: true });

  call(method: MethodName): Promise<unknown> {
    this.calls.push(method);
    return Promise.resolve(this.reply(method));
  }
  place(): Promise<string> {
    return Promise.reject(new Error("not here"));
  }
  follow(handlers: StreamHandlers): () => void {
    this.handlers = handlers;
    return () => undefined;
  }
  followLoad(on: boolean): void {
    this.load.push(on);
  }
  emit(topic: string, data: Record<string, unknown> = {}): void {
    this.handlers.event({ id: "1", topic, data });
  }
}

let transport: FakeTransport;
let client: Client;
let stops: (() => void)[];
beforeEach(() => {
  vi.useFakeTimers();
  transport = new FakeTransport();
  client = new Client(transport);
  stops = [client.start()];
});
afterEach(() => {
  for (const stop of stops) stop();
  vi.useRealTimers();
});

/** Show an answer, as a component does. */
async function show(method: MethodName): Promise<void> {
  const options = callOptions(client, method, {});
  stops.push(new QueryObserver(client.queries, { ...options, staleTime: Infinity }).subscribe(() => undefined));
  await settle();
}

async function settle(): Promise<void> {
  await vi.advanceTimersByTimeAsync(1000);
  transport.calls.sort();
}

describe("events", () => {
  it("load anew what they concern and what is shown, once for many", async () => {
    await show("search_models_fts");
    await show("list_apps");
    transport.calls.length = 0;
    for (let n = 0; n < 50; n++) transport.emit("model.added", { model_id: `m${n}` });
    await settle();
    expect(transport.calls).toEqual(["search_models_fts"]);
  });

  it("cost nothing when nobody shows what they concern", async () => {
    transport.emit("model.added");
    transport.emit("releases.changed");
    await settle();
    expect(transport.calls).toEqual([]);
  });

  it("reach listeners of their topic and of their group", () => {
    const heard: string[] = [];
    const listener = ({ topic }: PumasEvent) => heard.push(topic);
    const off = client.on("job.state", listener);
    client.on("job.", listener);
    transport.emit("job.state");
    transport.emit("job.progress");
    off();
    transport.emit("job.state");
    expect(heard).toEqual(["job.state", "job.state", "job.progress", "job.state"]);
  });

  it("that may have been missed make everything shown be loaded anew", async () => {
    await show("list_apps");
    transport.handlers.opened(false);
    await settle();
    transport.calls.length = 0;
    transport.handlers.opened(false);
    await settle();
    expect(transport.calls, "opened in time").toEqual([]);
    transport.handlers.opened(true);
    await settle();
    expect(transport.calls, "resync").toEqual(["list_apps"]);
    transport.calls.length = 0;
    transport.handlers.closed("unreachable");
    transport.handlers.opened(false);
    await settle();
    expect(transport.calls, "back after a cut: the stream brings what was missed").toEqual([]);
  });

  it("that come again make what had failed be asked again", async () => {
    transport.handlers.opened(false);
    transport.reply = () => {
      throw new CallError("unreachable", "gone");
    };
    await show("list_apps");
    transport.calls.length = 0;
    transport.reply = () => ({ success: true });
    transport.handlers.closed("unreachable");
    transport.handlers.opened(false);
    await settle();
    expect(transport.calls).toEqual(["list_apps"]);
  });

  it("that could have come before the stream was open do so as well", async () => {
    await show("list_apps");
    transport.calls.length = 0;
    transport.handlers.opened(false);
    await settle();
    expect(transport.calls).toEqual(["list_apps"]);
  });

  it.each([
    ["the stream opens", () => transport.handlers.opened(false)],
    ["an event comes", () => transport.emit("version.changed")],
  ])("make a first answer be asked again that was on its way when %s", async (_when, happens) => {
    let answer: (value: unknown) => void = () => undefined;
    transport.reply = () => new Promise((resolve) => (answer = resolve));
    await show("list_apps");
    happens();
    await settle();
    expect(transport.calls).toEqual(["list_apps"]);
    answer({ success: true, apps: ["as it was"] });
    await settle();
    answer({ success: true, apps: ["as it is"] });
    await settle();
    expect(transport.calls).toEqual(["list_apps", "list_apps"]);
    expect(client.queries.getQueryData(["list_apps", {}])).toMatchObject({ apps: ["as it is"] });
  });

  it.each(["a first answer", "an answer"])(
    "make %s be asked again once, however many come before it",
    async (which) => {
      let answer: (value: unknown) => void = () => undefined;
      transport.reply = () => new Promise((resolve) => (answer = resolve));
      await show("list_apps");
      if (which === "an answer") {
        answer({ success: true, apps: ["as it was"] });
        await settle();
        transport.emit("version.changed");
        await settle();
        transport.calls.shift();
      }
      for (let n = 0; n < 3; n++) {
        transport.emit("version.changed");
        await vi.advanceTimersByTimeAsync(300);
      }
      answer({ success: true, apps: [] });
      await settle();
      answer({ success: true, apps: [] });
      await settle();
      expect(transport.calls).toEqual(["list_apps", "list_apps"]);
    },
  );
});

describe("changes", () => {
  it("load anew what no event tells of, also when they fail", async () => {
    await show("list_trash");
    transport.calls.length = 0;
    await client.change("empty_trash", {});
    await settle();
    expect(transport.calls).toEqual(["empty_trash", "list_trash"]);
    transport.calls.length = 0;
    transport.reply = () => ({ success: false, error: "No.", error_code: "disk_full" });
    await expect(client.change("empty_trash", {})).rejects.toBeInstanceOf(CallError);
    await settle();
    expect(transport.calls).toEqual(["empty_trash", "list_trash"]);
  });
});

it("wants the load for as long as somebody looks", () => {
  const first = client.wantLoad();
  const second = client.wantLoad();
  first();
  expect(transport.load).toEqual([true]);
  second();
  expect(transport.load).toEqual([true, false]);
});

it.each([
  ["job.state", { kind: "import", state: "running" }, ["list_jobs"]],
  ["job.state", { kind: "verify", state: "completed" }, ["get_library_status", "get_model"]],
  ["job.state", { kind: "download", state: "paused" }, ["list_model_downloads"]],
  ["version.changed", {}, ["list_apps", "get_version_status"]],
  ["links.changed", {}, ["preview_model_mapping", "get_link_health"]],
  ["process.state", {}, ["list_processes"]],
  ["process.settings", {}, ["get_process_settings"]],
  ["network.settings", {}, ["get_network_settings", "get_network_status"]],
  ["download.limits", {}, ["get_download_limits"]],
  ["download.order", {}, ["list_model_downloads"]],
] as const)("knows what %s %j concerns", (topic, data, methods) => {
  expect(affectedBy(topic, data)).toEqual(expect.arrayContaining([...methods]));
});

it.each(["job.progress", "download.progress", "install.progress", "process.log", "system.resources", "unheard.of"])(
  "loads nothing anew because of %s",
  (topic) => {
    expect(affectedBy(topic, {})).toEqual([]);
  },
);

it("follows every topic that makes an answer out of date", () => {
  const groups = Object.keys(OF_TOPIC).map((topic) => topic.split(".")[0]);
  expect(TOPICS).toEqual(expect.arrayContaining([...new Set(groups)]));
});
