// The entry that Electron starts: where things lie on this machine, and off it goes.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import * as electron from "electron";

import { run } from "./app";

const dist = join(dirname(fileURLToPath(import.meta.url)), "..");
// In a package the backend and the contracts are its resources; in a checkout they lie beside `electron/`.
const packaged = electron.app.isPackaged;
const code = packaged ? process.resourcesPath : join(dist, "..", "..");
const root = process.env.PUMAS_ROOT ?? (packaged ? dataFolder() : code);

run(electron, {
  places: { code, root, packaged },
  dist,
  icon: packaged ? join(process.resourcesPath, "icon.png") : join(dist, "..", "resources", "icon.png"),
  arguments: process.argv,
  variables: process.env,
});

/** Where the command `pumas` has the library of an installed package, too. */
function dataFolder(): string {
  const home = electron.app.getPath("home");
  if (process.platform === "win32") return join(process.env.LOCALAPPDATA ?? home, "pumas");
  if (process.platform === "darwin") return join(home, "Library", "Application Support", "pumas");
  return join(process.env.XDG_DATA_HOME ?? join(home, ".local", "share"), "pumas");
}
