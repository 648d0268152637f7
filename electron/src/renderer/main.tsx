import { createRoot } from "react-dom/client";

import { App } from "./app/App";
import { LockedOut } from "./app/LockedOut";
import { BridgeTransport } from "./client/bridge";
import { Client } from "./client/client";
import { HttpTransport } from "./client/http";
import { Session, takeCode } from "./client/session";
import { showTheme } from "./lib/settings";
import "./theme.css";

const code = takeCode(); // before anything else sees the address

function pageRoot() {
  const element = document.getElementById("root");
  if (element === null) throw new Error("index.html has no #root");
  return createRoot(element);
}

async function start(): Promise<void> {
  showTheme();
  const root = pageRoot();
  const bridge = window.pumas;
  if (bridge !== undefined) {
    root.render(<App client={new Client(new BridgeTransport(bridge))} />);
    return;
  }
  const session = new Session();
  if (code !== null && !(await session.open(code).catch(() => false)) && session.token === null) {
    root.render(<LockedOut />);
    return;
  }
  root.render(<App client={new Client(new HttpTransport(session))} />);
}

void start();
