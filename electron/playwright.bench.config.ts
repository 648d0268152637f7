// `./launcher bench --ui`: one browser, one worker, nothing recorded beside the figures.
import { defineConfig } from "@playwright/test";

import tests from "./playwright.config";

export default defineConfig({
  ...tests,
  testDir: "e2e/bench",
  testMatch: "*.bench.ts",
  timeout: 1_200_000,
  workers: 1,
  use: { ...tests.use, trace: "off" },
});
