// The shell as a whole, from the window down to a real sidecar: the page's calls and events, the tray, the end.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { afterEach, beforeEach, describe, expect, test } from "vitest";

import type { Answer, ShellSettings, SidecarState, StreamMessage } from "../preload/bridge";
import { ASK, TELL, rpcChannel } from "../preload/channels";
import { type Electron, run } from "./app";
import * as standIn from "./testing/electron";
import { CHECKOUT, REAL_VARIABLES, eventually, folder, lives } from "./testing/support";

const { app, ask, world } = standIn;

let config: string;
let root: string;

function start(...words: string[]): void {
  run(standIn as unknown as Electron, {
    places: { code: CHECKOUT, root },
    dist: join(CHECKOUT, "electron", "dist"),
    icon: join(CHECKOUT, "electron", "resources", "icon.png"),
    arguments: words,
    variables: { ...REAL_VARIABLES, XDG_CONFIG_HOME: config },
  });
}

beforeEach(() => {
  config = folder();
  root = folder();
  process.env.STAND_IN_DATA = config;
});

afterEach(async () => {
  if (world.handlers.size > 0 && !world.exited) app.quit();
  if (world.handlers.size > 0) await eventually(() => world.exited, "the end");
  app.removeAllListeners();
  standIn.defaultSession.removeAllListeners();
  for (const list of [world.windows, world.trays, world.notifications, world.opened, world.schemes]) list.length = 0;
  world.handlers.clear();
  Object.assign(world, { exited: false, locked: true });
});

const window = () => eventually(() => world.windows[0], "a window");
const state = async () => (await ask(ASK.sidecar)) as SidecarState;
const running = () =>
  eventually(async () => (world.windows.length > 0 ? (await state()).phase === "running" : false), "the sidecar");
const call = async (method: Parameters<typeof rpcChannel>[0], params: object = {}) =>
  (await ask(rpcChannel(method), params)) as Answer;
const heard = () =>
  (world.windows[0]?.webContents.sent ?? [])
    .filter(({ channel }) => channel === TELL.stream)
    .map(({ message }) => message as StreamMessage);

describe("the shell", () => {
  test("shows the page, answers its calls, and tells it what happens", async () => {
    start();
    expect((await window()).shown).toBe(true);
    await running();
    expect(await call("health_check")).toEqual({ ok: true, result: { status: "ok" } });
    const wrong = await call("get_model", { nonsense: 1 });
    expect(wrong).toMatchObject({ ok: false, error: { code: -32602 } });
    expect(await call("list_jobs", { limit: 5 })).toMatchObject({ ok: true, result: { success: true, jobs: [] } });

    await eventually(async () => {
      await ask(ASK.follow);
      return heard().some(({ type }) => type === "opened");
    }, "the stream");
    const set = await call("set_network_settings", { offline: true });
    expect(set).toMatchObject({ ok: true });
    await eventually(() => heard().some((m) => m.type === "event" && m.topic.startsWith("network")), "the event");
  });

  test("goes on after the sidecar was killed: the page is told, and its stream is opened again", async () => {
    start();
    await running();
    await eventually(async () => {
      await ask(ASK.follow);
      return heard().some(({ type }) => type === "opened");
    }, "the stream");
    const before = heard().length;
    process.kill(await sidecarPid(), "SIGKILL");
    await eventually(
      () =>
        heard()
          .slice(before)
          .some(({ type }) => type === "closed"),
      "the break",
    );
    expect(await call("health_check")).toMatchObject({ ok: false, error: { kind: "unreachable" } });
    const phases = () =>
      (world.windows[0]?.webContents.sent ?? [])
        .filter(({ channel }) => channel === TELL.sidecar)
        .map(({ message }) => (message as SidecarState).phase);
    await eventually(() => phases().includes("restarting"), "the page is told");
    await running();
    await eventually(
      () =>
        heard()
          .slice(before)
          .some((message) => message.type === "opened" && message.gap),
      "the stream, with a gap",
    );
    expect(await call("health_check")).toMatchObject({ ok: true });
  });

  test("ends only when the sidecar has ended", async () => {
    start();
    await running();
    const pid = await sidecarPid();
    expect(lives(pid)).toBe(true);
    app.quit();
    expect(world.exited).toBe(false);
    await eventually(() => world.exited, "the end");
    expect(lives(pid)).toBe(false);
  });

  test("is one: a second one ends at once, and the first one shows itself", async () => {
    start();
    const first = await window();
    first.minimized = true;
    app.emit("second-instance");
    await eventually(() => first.focused && !first.minimized, "the window in front");
    await running();
  });

  test("that is not the first starts nothing", () => {
    world.locked = false;
    start();
    expect(world.exited).toBe(true);
    expect(world.handlers.size).toBe(0);
    expect(world.windows).toEqual([]);
  });

  test("stays in the tray when its window is closed, unless told otherwise", async () => {
    start();
    await running();
    world.windows[0]?.close();
    expect(world.exited).toBe(false);
    const [open] = world.trays[0]?.menu ?? [];
    (open as { click: () => void }).click();
    const again = await window();
    expect(again.options).toMatchObject({ x: 10, y: 20, width: 900, height: 700 });
    expect(await ask(ASK.changeSettings, { keepInTray: false, nonsense: 1, notifications: "no" })).toEqual({
      openAtLogin: false,
      keepInTray: false,
      notifications: true,
    } satisfies ShellSettings);
    world.windows[0]?.close();
    await eventually(() => world.exited, "the end");
  });

  test("starts without a window when the session starts it, and is in the session's list when wanted", async () => {
    start("--hidden");
    await eventually(() => world.trays[0], "the tray");
    expect(world.windows).toEqual([]);
    app.emit("activate");
    await running();
    const entry = join(config, "autostart", "pumas.desktop");
    await ask(ASK.changeSettings, { openAtLogin: true });
    expect(readFileSync(entry, "utf8")).toContain('"--hidden"');
    await ask(ASK.changeSettings, { openAtLogin: false });
    expect(existsSync(entry)).toBe(false);
  });

  test("asks for files and folders by the desktop's own dialogs", async () => {
    start();
    await running();
    world.dialogAnswer = { canceled: false, filePaths: ["/models/a.gguf"] };
    expect(await ask(ASK.chooseFiles)).toEqual(["/models/a.gguf"]);
    expect(world.dialogs.at(-1)).toMatchObject({ properties: ["openFile", "multiSelections"] });
    world.dialogAnswer = { canceled: true, filePaths: ["/models"] };
    expect(await ask(ASK.chooseFolder)).toEqual([]);
    expect(world.dialogs.at(-1)).toMatchObject({ properties: ["openDirectory"] });
  });

  test("loads a page that crashed anew", async () => {
    start();
    const shown = await window();
    shown.webContents.emit("render-process-gone", {}, { reason: "crashed" });
    expect(shown.webContents.reloads).toBe(1);
    await running();
  });
});

/** Of the sidecar of this test's root. */
async function sidecarPid(): Promise<number> {
  const file = join(root, "launcher-data", "rpc.json");
  await eventually(() => existsSync(file), "rpc.json");
  return (JSON.parse(readFileSync(file, "utf8")) as { pid: number }).pid;
}
