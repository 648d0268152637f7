import { createRoot } from "react-dom/client";

import { Client } from "../client/client";
import type { Transport } from "../client/types";
import { showTheme } from "../lib/settings";
import { App } from "./App";
import { LockedOut } from "./LockedOut";

/** Show the page; without a transport, why it cannot be used. */
export function start(transport: Transport | null): void {
  const element = document.getElementById("root");
  if (element === null) throw new Error("index.html has no #root");
  showTheme();
  createRoot(element).render(transport === null ? <LockedOut /> : <App client={new Client(transport)} />);
}
