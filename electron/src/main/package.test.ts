// The configuration of packages is what electron-builder accepts, and names what is there.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import { expect, test } from "vitest";

import { CHECKOUT } from "./testing/support";

const require = createRequire(import.meta.url);
const ELECTRON = join(CHECKOUT, "electron");

interface Config {
  linux: { target: string[]; icon: string };
  files: (string | { filter: string[] })[];
  extraResources: { from: string; to: string; filter?: string[] }[];
}

/** Read and checked by electron-builder's own code, against its own schema. */
async function read(): Promise<Config> {
  const builder = require("app-builder-lib/out/util/config/config") as {
    getConfig: (folder: string, file: string, options: null) => Promise<Config>;
    validateConfiguration: (config: Config, debug: { isEnabled: boolean; add(): void }) => Promise<void>;
  };
  const config = await builder.getConfig(ELECTRON, "electron-builder.yml", null);
  await builder.validateConfiguration(config, { isEnabled: false, add: () => undefined });
  return config;
}

test("the configuration is one, for AppImage and deb", async () => {
  const config = await read();
  expect(config.linux.target).toEqual(["AppImage", "deb"]);
  expect(existsSync(join(ELECTRON, config.linux.icon))).toBe(true);
});

test("what the shell looks for in a package is put there", async () => {
  const { extraResources, files } = await read();
  const { main } = JSON.parse(readFileSync(join(ELECTRON, "package.json"), "utf8")) as { main: string };
  const patterns = files.flatMap((one) => (typeof one === "string" ? [one] : one.filter));
  expect(patterns.some((pattern) => main.startsWith(pattern.replace("**", "")))).toBe(true);
  expect(extraResources.map(({ to }) => to)).toEqual(["backend", "contracts", "bin", "icon.png"]);
  for (const { from, to } of extraResources.filter(({ to: place }) => place !== "bin")) {
    expect(existsSync(join(ELECTRON, from)), to).toBe(true);
  }
});

test("the backend that a package starts is built before it is packed", async () => {
  const { scripts } = JSON.parse(readFileSync(join(ELECTRON, "package.json"), "utf8")) as {
    scripts: { package: string };
  };
  const steps = scripts.package.split(" && ");
  const builds = steps.findIndex((step) => step.endsWith("rust_backend.py"));
  expect(builds).toBeGreaterThanOrEqual(0);
  expect(steps.findIndex((step) => step.startsWith("electron-builder"))).toBeGreaterThan(builds);
  const { extraResources } = await read();
  expect(extraResources.find(({ to }) => to === "bin")).toMatchObject({
    from: "../rust/target/release",
    filter: ["pumas-rpc"],
  });
});

test("what it names is there once the page and the shell are built", async () => {
  const { files } = await read();
  const wanted = files.flatMap((one) => (typeof one === "string" ? [one] : one.filter));
  const missing = wanted
    .filter((pattern) => !pattern.startsWith("!"))
    .map((pattern) => pattern.replace(/\/\*\*$/, ""))
    .filter((path) => !existsSync(join(ELECTRON, path)));
  expect(missing).toEqual([]);
  for (const built of ["main/main.js", "preload/preload.cjs", "renderer/index.html"])
    expect(existsSync(join(ELECTRON, "dist", built)), built).toBe(true);
});

test("of the contract everything comes along that a backend may read", async () => {
  const { extraResources } = await read();
  const filter = extraResources.find(({ to }) => to === "contracts")?.filter ?? [];
  const folders = readdirSync(join(CHECKOUT, "contracts"), { withFileTypes: true }).filter((one) => one.isDirectory());
  const needed = folders.map(({ name }) => name).filter((name) => name !== "examples"); // which only tests read
  expect(filter.sort()).toEqual(["*.json", ...needed.map((name) => `${name}/**`)].sort());
  const backend = extraResources.find(({ to }) => to === "backend");
  const others = readdirSync(join(CHECKOUT, "backend"), { recursive: true, withFileTypes: true })
    // `py.typed` is for those who write against the Python client.
    .filter((one) => one.isFile() && !/\.pyc?$|^py\.typed$/.test(one.name))
    .map(({ name }) => name);
  expect([backend?.filter, others]).toEqual([["**/*.py"], []]);
});

test("its icon is large enough for every menu", async () => {
  const { linux } = await read();
  const picture = readFileSync(join(ELECTRON, linux.icon));
  // https://www.w3.org/TR/png-3/#11IHDR: width and height stand at a fixed place.
  expect(Math.min(picture.readUInt32BE(16), picture.readUInt32BE(20))).toBeGreaterThanOrEqual(512);
});

test("a wrong configuration is noticed", async () => {
  const builder = require("app-builder-lib/out/util/config/config") as {
    validateConfiguration: (config: object, debug: { isEnabled: boolean; add(): void }) => Promise<void>;
  };
  const wrong = builder.validateConfiguration(
    { linux: { tarjet: ["deb"] } },
    { isEnabled: false, add: () => undefined },
  );
  await expect(wrong).rejects.toThrow(/configuration\.linux/);
});
