// Starting with the desktop's session. Electron does it on Windows and macOS; on Linux it is an entry of the desktop's
// own (https://specifications.freedesktop.org/autostart-spec/latest/).
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import type { App } from "electron";

export const HIDDEN = "--hidden";

export interface LoginPlace {
  /** `$XDG_CONFIG_HOME`. */
  readonly config: string;
  /** The program and its arguments. */
  readonly command: readonly string[];
}

export async function setOpenAtLogin(app: Pick<App, "setLoginItemSettings">, place: LoginPlace, on: boolean) {
  if (process.platform !== "linux") {
    app.setLoginItemSettings({ openAtLogin: on, args: [HIDDEN] });
    return;
  }
  const folder = join(place.config, "autostart");
  const file = join(folder, "pumas.desktop");
  if (!on) {
    await rm(file, { force: true });
    return;
  }
  await mkdir(folder, { recursive: true });
  await writeFile(file, autostartEntry(place.command));
}

export function autostartEntry(command: readonly string[]): string {
  const lines = [
    "[Desktop Entry]",
    "Type=Application",
    "Name=Pumas",
    `Exec=${[...command, HIDDEN].map(quoted).join(" ")}`,
    "Icon=pumas",
    "Terminal=false",
    "X-GNOME-Autostart-enabled=true",
  ];
  return `${lines.join("\n")}\n`;
}

/** https://specifications.freedesktop.org/desktop-entry-spec/latest/exec-variables.html, then as a string value. */
function quoted(word: string): string {
  const escaped = word.replaceAll(/["`$\\]/g, "\\$&").replaceAll("%", "%%");
  return `"${escaped.replaceAll("\\", "\\\\")}"`;
}
