// Builds the page into dist/renderer. The sidecar serves that folder from `/`, the desktop shell loads it by its own
// protocol; addresses are therefore relative and nothing is inlined, so that a strict CSP holds in both.
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  root: "src/renderer",
  base: "./",
  plugins: [react()],
  build: {
    outDir: "../../dist/renderer",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
    reportCompressedSize: true,
  },
});
