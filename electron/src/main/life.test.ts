// The built main process as a process of its own: however it ends, nothing of it stays behind.
import { type ChildProcess, fork } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { beforeAll, expect, onTestFinished, test } from "vitest";
import { build } from "vite";

import { CHECKOUT, REAL_VARIABLES, eventually, folder, lives } from "./testing/support";

const ELECTRON = join(CHECKOUT, "electron");
const PROGRAM = join(ELECTRON, "dist", "testing", "shell.mjs");

/** dist/main/main.js with the stand-in in Electron's place, as one file that Node can run. */
beforeAll(async () => {
  await build({
    configFile: false,
    logLevel: "error",
    root: ELECTRON,
    publicDir: false,
    resolve: { alias: { electron: join(ELECTRON, "src", "main", "testing", "electron.ts") } },
    build: {
      ssr: join(ELECTRON, "src", "main", "testing", "shell.ts"),
      outDir: join(ELECTRON, "dist", "testing"),
      minify: false,
      target: "node20",
      rollupOptions: { output: { entryFileNames: "shell.mjs" } },
    },
  });
});

interface Running {
  shell: ChildProcess;
  sidecar: number;
  ended: Promise<number | null>;
}

async function start(): Promise<Running> {
  const root = folder();
  const shell = fork(PROGRAM, [], {
    env: { ...REAL_VARIABLES, PUMAS_ROOT: root, STAND_IN_DATA: root },
    stdio: ["ignore", "ignore", "inherit", "ipc"],
    execArgv: [],
  });
  const ended = new Promise<number | null>((resolve) => shell.once("exit", resolve));
  onTestFinished(() => void shell.kill("SIGKILL"));
  const file = join(root, "launcher-data", "rpc.json");
  await eventually(() => existsSync(file), "the sidecar", 30_000);
  const { pid } = JSON.parse(readFileSync(file, "utf8")) as { pid: number };
  expect(lives(pid)).toBe(true);
  return { shell, sidecar: pid, ended };
}

test("it is quit: the sidecar ends first", async () => {
  const { shell, sidecar, ended } = await start();
  shell.send("quit");
  expect(await ended).toBe(0);
  expect(lives(sidecar)).toBe(false);
});

test("it is killed: the sidecar follows", async () => {
  const { shell, sidecar, ended } = await start();
  shell.kill("SIGKILL");
  await ended;
  await eventually(() => !lives(sidecar), "the sidecar's end");
});
