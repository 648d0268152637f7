// The built preload script, run as a sandboxed one is: with `require` for electron alone. What the page can do with it.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import vm from "node:vm";

import { beforeAll, beforeEach, describe, expect, test } from "vitest";

import { CHECKOUT } from "../main/testing/support";
import type { PumasBridge } from "./bridge";
import { ASK, TELL, rpcChannel } from "./channels";
import { METHODS } from "./methods";

const invoked: { channel: string; message: unknown }[] = [];
const listeners = new Map<string, ((event: unknown, message: unknown) => void)[]>();
const exposed = new Map<string, unknown>();
let bridge: PumasBridge;

const electron = {
  contextBridge: { exposeInMainWorld: (name: string, value: unknown) => exposed.set(name, value) },
  ipcRenderer: {
    invoke: (channel: string, message: unknown) => {
      invoked.push({ channel, message });
      return Promise.resolve({ ok: true, result: channel });
    },
    on: (channel: string, listener: () => void) =>
      listeners.set(channel, [...(listeners.get(channel) ?? []), listener]),
    removeListener: (channel: string, listener: () => void) =>
      listeners.set(
        channel,
        (listeners.get(channel) ?? []).filter((one) => one !== listener),
      ),
  },
  webUtils: { getPathForFile: (file: { path: string }) => file.path },
};

beforeAll(() => {
  const code = readFileSync(join(CHECKOUT, "electron", "dist", "preload", "preload.cjs"), "utf8");
  const required = (name: string) => {
    if (name !== "electron") throw new Error(`a sandboxed preload cannot load ${name}`);
    return electron;
  };
  vm.runInNewContext(code, { require: required, module: { exports: {} }, exports: {}, Promise, Error });
  bridge = exposed.get("pumas") as PumasBridge;
});

beforeEach(() => {
  invoked.length = 0;
});

describe("what the page gets", () => {
  test("is one object with these functions and nothing else", () => {
    expect([...exposed.keys()]).toEqual(["pumas"]);
    expect(Object.keys(bridge).sort()).toEqual([
      "call",
      "changeSettings",
      "chooseFiles",
      "chooseFolder",
      "follow",
      "followLoad",
      "onSidecar",
      "pathOf",
      "restartSidecar",
      "settings",
      "sidecar",
    ]);
    expect(Object.values(bridge).every((value) => typeof value === "function")).toBe(true);
  });

  test("calls each method of the contract by its own channel", async () => {
    for (const method of METHODS) await bridge.call(method, { x: 1 });
    expect(invoked).toEqual(METHODS.map((method) => ({ channel: rpcChannel(method), message: { x: 1 } })));
  });

  test.each([
    "shutdown",
    "restart_launcher",
    "rpc.discover",
    "nonsense",
    "constructor",
    "__proto__",
    "shell:settings",
    7,
  ])("cannot call %s", async (name) => {
    await expect(bridge.call(name as never, {})).rejects.toThrow("no such method");
    expect(invoked).toEqual([]);
  });

  test("hears messages without their events, until it has heard enough", () => {
    const heard: unknown[] = [];
    const end = bridge.follow((message) => heard.push(message));
    const endOther = bridge.onSidecar((state) => heard.push(state));
    expect(invoked.map(({ channel }) => channel)).toEqual([ASK.follow]);
    const send = (channel: string, message: unknown) =>
      listeners.get(channel)?.forEach((listener) => listener({ sender: "an event object" }, message));
    send(TELL.stream, { type: "opened", gap: false });
    send(TELL.sidecar, { phase: "starting" });
    end();
    endOther();
    send(TELL.stream, { type: "opened", gap: true });
    send(TELL.sidecar, { phase: "stopped" });
    expect(heard).toEqual([{ type: "opened", gap: false }, { phase: "starting" }]);
  });

  test("asks the shell by fixed channels", async () => {
    await bridge.sidecar();
    await bridge.restartSidecar();
    await bridge.chooseFiles();
    await bridge.chooseFolder();
    await bridge.settings();
    await bridge.changeSettings({ notifications: false });
    bridge.followLoad(true);
    expect(invoked.map(({ channel }) => channel)).toEqual([
      ASK.sidecar,
      ASK.restartSidecar,
      ASK.chooseFiles,
      ASK.chooseFolder,
      ASK.settings,
      ASK.changeSettings,
      ASK.followLoad,
    ]);
    expect(bridge.pathOf({ path: "/models/a.gguf" } as unknown as File)).toBe("/models/a.gguf");
  });
});
