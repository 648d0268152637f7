// The built page in Debian's Chromium, against real sidecars. `npm run test:browser` builds first.
import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: "e2e",
  outputDir: "test-results",
  // Bounds that end a test which hangs; the machine may be busy with other suites.
  timeout: 240_000,
  expect: { timeout: 45_000 },
  fullyParallel: false,
  workers: Number(process.env.PUMAS_BROWSER_WORKERS ?? 2),
  forbidOnly: true,
  retries: 0,
  reporter: [["list"]],
  use: {
    browserName: "chromium",
    viewport: { width: 1280, height: 860 },
    locale: "en-GB",
    colorScheme: "dark",
    trace: "retain-on-failure",
    launchOptions: {
      executablePath: process.env.PUMAS_CHROMIUM ?? "/usr/bin/chromium",
      // As root, as in containers, Chromium's own sandbox cannot be set up.
      args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
    },
  },
});
