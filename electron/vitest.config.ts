import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    projects: [
      {
        test: { name: "renderer", environment: "jsdom", include: ["src/renderer/**/*.test.{ts,tsx}"] },
      },
      {
        test: { name: "main", environment: "node", include: ["src/{main,preload}/**/*.test.ts"] },
      },
    ],
  },
});
