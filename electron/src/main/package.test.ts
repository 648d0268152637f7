// The configuration of packages is what electron-builder accepts, and names what is there.
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import { expect, test } from "vitest";

import { CHECKOUT } from "./testing/support";

const require = createRequire(import.meta.url);
const ELECTRON = join(CHECKOUT, "electron");

interface Config {
  linux: { target: string[]; icon: string };
  files: (string | { filter: string[] })[];
  extraResources: { from: string; to: string }[];
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
