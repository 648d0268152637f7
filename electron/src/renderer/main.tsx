// Small on purpose: the token and the first answers are asked for while the rest of the page is still being loaded.
import { BridgeTransport } from "./client/bridge";
import { HttpTransport } from "./client/http";
import { Primed } from "./client/primed";
import { Session, takeCode } from "./client/session";
import "./theme.css";
import { EVERYTHING, searchParams } from "./views/library/params";

const code = takeCode(); // before anything else sees the address
const rest = import("./app/start");

/** Whether this page may call the sidecar. A page without a code tries with what the tab knows already. */
async function admitted(session: Session): Promise<boolean> {
  if (code === null) return true;
  return (await session.open(code).catch(() => false)) || session.token !== null;
}

async function open(): Promise<Primed | null> {
  const bridge = window.pumas;
  if (bridge !== undefined) return new Primed(new BridgeTransport(bridge));
  const session = new Session();
  return (await admitted(session)) ? new Primed(new HttpTransport(session)) : null;
}

async function start(): Promise<void> {
  const transport = await open();
  if (/^(#\/?(library.*)?)?$/.test(location.hash)) {
    transport?.prime("search_models_fts", searchParams(EVERYTHING, 0));
    transport?.prime("get_library_status", {});
  }
  (await rest).start(transport);
}

void start();
