import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

import { autostartEntry, setOpenAtLogin } from "./login";
import { folder } from "./testing/support";

const app = { setLoginItemSettings: () => undefined };

test("the entry comes and goes", async () => {
  const config = folder();
  const file = join(config, "autostart", "pumas.desktop");
  await setOpenAtLogin(app, { config, command: ["/opt/Pumas/pumas-desktop"] }, true);
  expect(readFileSync(file, "utf8")).toContain('Exec="/opt/Pumas/pumas-desktop" "--hidden"\n');
  await setOpenAtLogin(app, { config, command: ["/opt/Pumas/pumas-desktop"] }, false);
  expect(existsSync(file)).toBe(false);
  await setOpenAtLogin(app, { config, command: [] }, false);
});

test("the entry is one that desktops accept, whatever the program's path holds", () => {
  const file = join(folder(), "pumas.desktop");
  writeFileSync(file, autostartEntry(['/home/a b/$x`y"z%f\\w/pumas']));
  execFileSync("desktop-file-validate", [file], { stdio: "pipe" });
  expect(readFileSync(file, "utf8")).toContain('"/home/a b/\\\\$x\\\\`y\\\\"z%%f\\\\\\\\w/pumas"');
});
