// The built main process with the stand-in for Electron, for tests that start it as a process of its own.
import "../../../dist/main/main.js";

import { app, world } from "./electron";

world.onExit = () => process.exit(0);
process.on("message", (word) => {
  if (word === "quit") app.quit();
});
