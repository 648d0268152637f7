// Builds the page into dist/renderer. The sidecar serves that folder from `/`, the desktop shell loads it by its own
// protocol; addresses are therefore relative and nothing is inlined, so that a strict CSP holds in both.
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

/** What the first script imports once it has asked for the token is fetched beside it, not after it. */
function fetchAhead(name: string): Plugin {
  return {
    name: "fetch-ahead",
    transformIndexHtml: {
      order: "post",
      handler(_html, { bundle = {} }) {
        const chunk = Object.values(bundle).find((one) => one.type === "chunk" && one.name === name);
        if (chunk?.type !== "chunk") return;
        const styles = [...(chunk.viteMetadata?.importedCss ?? [])];
        return [
          {
            tag: "link",
            attrs: { rel: "modulepreload", crossorigin: true, href: `./${chunk.fileName}` },
            injectTo: "head" as const,
          },
          ...styles.map((href) => ({
            tag: "link",
            attrs: { rel: "preload", as: "style", crossorigin: true, href: `./${href}` },
            injectTo: "head" as const,
          })),
        ];
      },
    },
  };
}

/**
 * Nearly all of this chunk is needed for the first view: compiled while it comes, beside the main thread, instead of
 * function by function when each is first called (https://v8.dev/blog/explicit-compile-hints).
 */
function compileWhole(name: string): Plugin {
  return {
    name: "compile-whole",
    generateBundle: {
      order: "post",
      handler(_options, bundle) {
        for (const one of Object.values(bundle))
          if (one.type === "chunk" && one.name === name) one.code = `//# allFunctionsCalledOnLoad\n${one.code}`;
      },
    },
  };
}

export default defineConfig({
  root: "src/renderer",
  base: "./",
  plugins: [react(), fetchAhead("start"), compileWhole("start")],
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
