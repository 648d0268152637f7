import { fileURLToPath } from "node:url";

import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "renderer",
          environment: "jsdom",
          include: ["src/renderer/**/*.test.{ts,tsx}"],
          testTimeout: 60_000,
        },
      },
      {
        resolve: { alias: { electron: fileURLToPath(new URL("src/main/testing/electron.ts", import.meta.url)) } },
        test: {
          name: "main",
          environment: "node",
          include: ["src/{main,preload}/**/*.test.ts"],
          globalSetup: "src/main/testing/build.ts",
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
});
