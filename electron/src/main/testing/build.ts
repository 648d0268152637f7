// The tests of the shell look at what Electron will run, so that is built first; it takes half a second. The page takes
// longer and is only looked for: an older build will do.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export default function build(): void {
  const electron = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
  const vite = join(electron, "node_modules", "vite", "bin", "vite.js");
  const run = (...words: string[]) =>
    execFileSync(process.execPath, [vite, "build", ...words], { cwd: electron, stdio: "pipe" });
  for (const mode of ["main", "preload"]) run("-c", "vite.shell.config.ts", "--mode", mode);
  if (!existsSync(join(electron, "dist", "renderer", "index.html"))) run();
}
