// Builds what Electron runs beside the page: the main process, and the preload script as one CommonJS file, which is
// what a sandboxed one has to be.
import { builtinModules } from "node:module";

import { defineConfig } from "vite";

const outside = ["electron", ...builtinModules, ...builtinModules.map((name) => `node:${name}`)];

export default defineConfig(({ mode }) => {
  const preload = mode === "preload";
  return {
    publicDir: false,
    build: {
      outDir: `dist/${preload ? "preload" : "main"}`,
      emptyOutDir: true,
      target: "node20",
      minify: false,
      lib: {
        entry: preload ? "src/preload/preload.ts" : "src/main/main.ts",
        formats: [preload ? "cjs" : "es"],
        fileName: () => (preload ? "preload.cjs" : "main.js"),
      },
      rollupOptions: { external: outside },
    },
  };
});
