// What no page may do, whatever it is made to try: Electron's security checklist, as far as it is code
// (https://www.electronjs.org/docs/latest/tutorial/security). `window.ts` has what is chosen per window, `ipc.ts` asks
// `fromOurPage` about every message.
import type { App, IpcMainInvokeEvent, Session, Shell, WebContents, WebPreferences } from "electron";

import { isOwn } from "./page";

/** Reading text that the person copied out of the page needs none; everything else is refused. */
const PERMITTED = new Set(["clipboard-sanitized-write"]);

export const WEB_PREFERENCES = {
  contextIsolation: true,
  sandbox: true,
  nodeIntegration: false,
  nodeIntegrationInWorker: false,
  nodeIntegrationInSubFrames: false,
  webSecurity: true,
  allowRunningInsecureContent: false,
  experimentalFeatures: false,
  webviewTag: false,
  navigateOnDragDrop: false,
  safeDialogs: true,
  devTools: process.env.PUMAS_DEVTOOLS === "1",
} as const satisfies WebPreferences;

/** Links lead out of the shell, into the person's browser, and only to the web. */
export function isWebAddress(address: string): boolean {
  try {
    const { protocol, host, username, password } = new URL(address);
    return (protocol === "https:" || protocol === "http:") && host !== "" && username === "" && password === "";
  } catch {
    return false;
  }
}

export function guardSession(session: Session): void {
  session.setPermissionRequestHandler((contents, permission, answer) =>
    answer(PERMITTED.has(permission) && isOwn(contents.getURL())),
  );
  session.setPermissionCheckHandler(
    (_contents, permission, origin) => PERMITTED.has(permission) && isOwn(`${origin}/`),
  );
  session.setDevicePermissionHandler(() => false);
  session.on("will-download", (event) => event.preventDefault());
  // The page has no business on the network: the sidecar's answers come through the main process.
  session.webRequest.onBeforeRequest((request, answer) => answer({ cancel: !mayLoad(request.url) }));
}

function mayLoad(address: string): boolean {
  return isOwn(address) || /^(?:data|blob|devtools):/.test(address);
}

/** For every page that comes to be, ours or not. */
export function guardContents(app: App, shell: Shell): void {
  app.on("web-contents-created", (_event, contents: WebContents) => {
    const stay = (event: { preventDefault(): void }, address: string) => {
      if (!isOwn(address)) event.preventDefault();
    };
    contents.on("will-navigate", (event) => stay(event, event.url));
    contents.on("will-frame-navigate", (event) => stay(event, event.url));
    contents.on("will-redirect", (event) => stay(event, event.url));
    contents.on("will-attach-webview", (event) => event.preventDefault());
    contents.setWindowOpenHandler(({ url }) => {
      if (isWebAddress(url)) void shell.openExternal(url);
      return { action: "deny" };
    });
  });
}

/** Whether a message comes from our page itself: its main frame, at our own address. */
export function fromOurPage(event: IpcMainInvokeEvent): boolean {
  const frame = event.senderFrame;
  return frame !== null && frame === event.sender.mainFrame && isOwn(frame.url);
}
