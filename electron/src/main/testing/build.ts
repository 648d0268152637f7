// The tests of the shell look at what Electron will run, so that is built first; it takes half a second.
import { execFileSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export default function build(): void {
  const electron = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
  const vite = join(electron, "node_modules", "vite", "bin", "vite.js");
  for (const mode of ["main", "preload"]) {
    execFileSync(process.execPath, [vite, "build", "-c", "vite.shell.config.ts", "--mode", mode], {
      cwd: electron,
      stdio: "pipe",
    });
  }
}
