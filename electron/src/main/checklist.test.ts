// Electron's security checklist, item by item, over the built main process
// (https://www.electronjs.org/docs/latest/tutorial/security). The stand-in plays Electron; the backend is real.
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import rules from "../../../contracts/page.json";
import { ASK, rpcChannel } from "../preload/channels";
import { METHODS } from "../preload/methods";
import * as electron from "./testing/electron";
import { CHECKOUT, NOWHERE, eventually } from "./testing/support";

const { app, ask, defaultSession, world } = electron;
const DIST = join(CHECKOUT, "electron", "dist");
const EVIL = [
  "https://evil.example/",
  "http://127.0.0.1:80/",
  "file:///etc/passwd",
  "javascript:alert(1)",
  "data:text/html,<script>1</script>",
  "pumas://evil/",
  "pumas://app.evil.example/",
  "pumas://user@app/",
  "pumas:app",
  "",
  "not an address",
];

let root: string;

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "pumas-checklist-"));
  process.env.STAND_IN_DATA = join(root, "data");
  Object.assign(process.env, { PUMAS_ROOT: join(root, "root"), HF_ENDPOINT: NOWHERE, PUMAS_GITHUB_API: NOWHERE });
  await import(join(DIST, "main", "main.js"));
  await eventually(() => world.windows[0]?.shown, "the window");
});

afterAll(async () => {
  app.quit();
  await eventually(() => world.exited, "the end");
  rmSync(root, { recursive: true, force: true });
});

const options = () => world.windows[0]?.options as { webPreferences: Record<string, unknown> };
const contents = () => {
  const found = world.windows[0]?.webContents;
  if (found === undefined) throw new Error("no window");
  return found;
};
const serve = (path: string, init?: RequestInit) => {
  const handler = world.protocols.get("pumas");
  if (handler === undefined) throw new Error("no protocol");
  return handler(new Request(new URL(path, "pumas://app/"), init));
};
/** Whether a request of the page for this address goes through. */
const loads = (url: string) =>
  new Promise<boolean>((resolve) => defaultSession.request?.({ url }, ({ cancel }) => resolve(cancel !== true)));

describe("the security checklist", () => {
  test("1. only secure content is loaded: nothing but the page's own origin", async () => {
    expect(contents().mainFrame.url).toBe("pumas://app/");
    expect(await loads("pumas://app/assets/x.js")).toBe(true);
    for (const address of EVIL.filter((one) => !one.startsWith("data:"))) {
      expect(await loads(address), address).toBe(false);
    }
  });

  test("2. no Node in the page", () => {
    const { webPreferences: chosen } = options();
    expect(chosen).toMatchObject({
      nodeIntegration: false,
      nodeIntegrationInWorker: false,
      nodeIntegrationInSubFrames: false,
    });
  });

  test("3. the preload has a world of its own", () => {
    expect(options().webPreferences.contextIsolation).toBe(true);
  });

  test("4. every process is sandboxed", () => {
    expect(options().webPreferences.sandbox).toBe(true);
    expect(world.sandboxed).toBe(true);
  });

  test("5. permissions are refused, but for writing what the person copies", async () => {
    const asked = (permission: string, url: string) =>
      new Promise<boolean>((resolve) => defaultSession.permission?.({ getURL: () => url }, permission, resolve));
    const all = ["media", "geolocation", "notifications", "openExternal", "clipboard-read", "display-capture", "usb"];
    for (const name of all) {
      expect(await asked(name, "pumas://app/"), name).toBe(false);
      expect(defaultSession.check?.(null, name, "pumas://app"), name).toBe(false);
    }
    const write = "clipboard-sanitized-write";
    for (const url of EVIL) expect(await asked(write, url), url).toBe(false);
    expect(await asked(write, "pumas://app/")).toBe(true);
    expect(defaultSession.check?.(null, write, "pumas://app")).toBe(true);
    expect(defaultSession.check?.(null, write, "https://evil.example")).toBe(false);
    expect(defaultSession.device?.()).toBe(false);
  });

  test("6. web security stays on", () => {
    expect(options().webPreferences.webSecurity).toBe(true);
  });

  test("7. every answer has the content security policy, without anything inline or foreign", async () => {
    for (const [path, status] of [
      ["/", 200],
      ["/nothing.js", 404],
    ] as const) {
      const answer = await serve(path);
      expect(answer.status).toBe(status);
      for (const [name, value] of Object.entries(rules.headers)) expect(answer.headers.get(name), name).toBe(value);
    }
    const policy = rules.headers["Content-Security-Policy"];
    expect(policy).toMatch(/^default-src 'none';/);
    expect(policy).not.toMatch(/unsafe|\*|https?:/);
  });

  test("8. no insecure content on a secure page", () => {
    expect(options().webPreferences.allowRunningInsecureContent).toBe(false);
  });

  test("9. and 10. nothing experimental", () => {
    expect(options().webPreferences.experimentalFeatures).toBe(false);
    expect(options().webPreferences).not.toHaveProperty("enableBlinkFeatures");
  });

  test("11. and 12. there is no webview, and none can be attached", () => {
    expect(options().webPreferences.webviewTag).toBe(false);
    expect(prevented("will-attach-webview", {})).toBe(true);
  });

  test("13. the window stays at the page", () => {
    for (const event of ["will-navigate", "will-frame-navigate", "will-redirect"]) {
      for (const url of EVIL) expect(prevented(event, { url }), `${event} ${url}`).toBe(true);
      expect(prevented(event, { url: "pumas://app/#/library" })).toBe(false);
    }
    expect(options().webPreferences.navigateOnDragDrop).toBe(false);
  });

  test("14. no window is opened", () => {
    for (const url of [...EVIL, "pumas://app/"]) expect(contents().windowOpen({ url })).toEqual({ action: "deny" });
  });

  test("15. only addresses of the web are handed to the desktop", () => {
    world.opened.length = 0;
    const harmless = ["https://huggingface.co/a/b", "http://127.0.0.1:8188/"];
    const harmful = ["file:///etc/passwd", "javascript:1", "smb://x/y", "ms-msdt:x", "https://u:p@x/", "", "https:"];
    for (const url of [...harmless, ...harmful]) contents().windowOpen({ url });
    expect(world.opened).toEqual(harmless);
  });

  test("16. Electron is one that is still maintained", () => {
    const { devDependencies } = JSON.parse(readFileSync(join(CHECKOUT, "electron", "package.json"), "utf8")) as {
      devDependencies: Record<string, string>;
    };
    expect(Number(/\d+/.exec(devDependencies.electron ?? "")?.[0])).toBeGreaterThanOrEqual(38);
  });

  test("17. every channel asks who sends", async () => {
    const channels = [...Object.values(ASK), ...METHODS.map(rpcChannel)];
    expect([...world.handlers.keys()].sort()).toEqual(channels.sort());
    const page = contents().mainFrame;
    for (const channel of channels) {
      expect(() => ask(channel, {}, { url: "pumas://app/" }), "a frame inside the page").toThrow(/Refused/);
    }
    for (const url of EVIL) {
      contents().mainFrame = { url };
      expect(() => ask(ASK.sidecar), url).toThrow(/Refused/);
    }
    contents().mainFrame = page;
    expect(await ask(ASK.sidecar)).toHaveProperty("phase");
  });

  test("18. the page is not loaded by file:", async () => {
    expect(world.schemes).toEqual([
      { scheme: "pumas", privileges: { standard: true, secure: true, supportFetchAPI: true, codeCache: true } },
    ]);
    for (const path of ["/../main/main.js", "/%2e%2e/main/main.js", "/..%2fmain/main.js", "//etc/passwd", "/assets/"]) {
      expect((await serve(path)).status, path).toBeGreaterThanOrEqual(400);
    }
    expect((await serve("/", { method: "POST", body: "x" })).status).toBe(403);
    expect((await serve("pumas://evil/index.html")).status).toBe(403);
  });

  test("19. the fuses of a package are set", () => {
    const config = readFileSync(join(CHECKOUT, "electron", "electron-builder.yml"), "utf8");
    const lines = [...config.matchAll(/^ {2}(\w+): (true|false)$/gm)];
    const fuses = Object.fromEntries(lines.map(([, name = "", value = ""]) => [name, value]));
    expect(fuses).toMatchObject({
      runAsNode: "false",
      enableCookieEncryption: "true",
      enableNodeOptionsEnvironmentVariable: "false",
      enableNodeCliInspectArguments: "false",
      enableEmbeddedAsarIntegrityValidation: "true",
      onlyLoadAppFromAsar: "true",
      grantFileProtocolExtraPrivileges: "false",
    });
  });

  test("20. the page gets no part of Electron, and no token", async () => {
    await eventually(async () => ((await ask(ASK.sidecar)) as { phase: string }).phase === "running", "the sidecar");
    const told = JSON.stringify([await ask(ASK.sidecar), await ask(ASK.settings), contents().sent]);
    const file = join(root, "root", "launcher-data", "rpc.json");
    await eventually(() => existsSync(file), "rpc.json");
    const { token } = JSON.parse(readFileSync(file, "utf8")) as {
      token: string;
    };
    expect(token).toMatch(/^[\w-]{43}$/);
    expect(told).not.toContain(token);
    const preload = readFileSync(join(DIST, "preload", "preload.cjs"), "utf8");
    expect([...preload.matchAll(/exposeInMainWorld\("(\w+)"/g)].map(([, name]) => name)).toEqual(["pumas"]);
  });
});

function prevented(event: string, details: object): boolean {
  let stopped = false;
  contents().emit(event, { ...details, preventDefault: () => (stopped = true) });
  return stopped;
}
