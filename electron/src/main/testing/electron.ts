// A thin stand-in for Electron's API, in Node: remembers what the shell asks for, and lets a test play the page, the
// person and the desktop. Only what the shell uses is here; what it uses and is not here fails the test loudly.
import { EventEmitter } from "node:events";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";

type Any = Record<string, unknown>;

/** What a test looks at. */
export const world = {
  windows: [] as BrowserWindow[],
  trays: [] as Tray[],
  notifications: [] as Notification[],
  opened: [] as string[],
  schemes: [] as Any[],
  protocols: new Map<string, (request: Request) => Promise<Response>>(),
  handlers: new Map<string, (event: unknown, message: unknown) => unknown>(),
  loginItem: null as Any | null,
  dialogs: [] as Any[],
  dialogAnswer: { canceled: false, filePaths: [] as string[] },
  sandboxed: false,
  locked: true,
  exited: false,
  onExit: (): void => undefined,
};

class FakeApp extends EventEmitter {
  isPackaged = false;
  private readonly data = process.env.STAND_IN_DATA ?? join(tmpdir(), "pumas-stand-in");
  requestSingleInstanceLock = () => world.locked;
  enableSandbox = () => void (world.sandboxed = true);
  whenReady = () => Promise.resolve();
  getLocale = () => process.env.STAND_IN_LOCALE ?? "en-GB";
  getAppPath = () => process.cwd();
  getPath = (name: string) => (name === "home" ? homedir() : name === "exe" ? process.execPath : join(this.data, name));
  setLoginItemSettings = (item: Any) => void (world.loginItem = item);

  /** As Electron does: windows are closed first, and `will-quit` may hold the end up. */
  quit(): void {
    this.emit("before-quit", preventable());
    for (const window of [...world.windows]) window.close();
    const event = preventable();
    this.emit("will-quit", event);
    if (event.prevented) return;
    world.exited = true;
    world.onExit();
  }
}

function preventable() {
  const event = { prevented: false, preventDefault: () => void (event.prevented = true) };
  return event;
}

export interface Frame {
  url: string;
}

class WebContents extends EventEmitter {
  sent: { channel: string; message: unknown }[] = [];
  reloads = 0;
  windowOpen: (details: { url: string }) => { action: string } = () => ({ action: "allow" });
  mainFrame: Frame = { url: "about:blank" };
  getURL = () => this.mainFrame.url;
  isDestroyed = () => false;
  reload = () => {
    this.reloads++;
  };
  setWindowOpenHandler = (handler: (details: { url: string }) => { action: string }) =>
    void (this.windowOpen = handler);
  send = (channel: string, message: unknown) => void this.sent.push({ channel, message });
}

export class BrowserWindow extends EventEmitter {
  readonly webContents = new WebContents();
  shown = false;
  focused = false;
  progress = -1;
  minimized = false;

  constructor(readonly options: Any) {
    super();
    world.windows.push(this);
    app.emit("web-contents-created", {}, this.webContents);
  }

  async loadURL(url: string): Promise<void> {
    this.webContents.emit("did-start-navigation", { isMainFrame: true, isSameDocument: false, url });
    this.webContents.mainFrame = { url };
    await Promise.resolve();
    this.emit("ready-to-show");
  }

  show = () => void (this.shown = true);
  focus = () => void (this.focused = true);
  isFocused = () => this.focused;
  isMinimized = () => this.minimized;
  restore = () => void (this.minimized = false);
  getNormalBounds = () => ({ x: 10, y: 20, width: 900, height: 700 });
  setProgressBar = (value: number) => void (this.progress = value);

  close(): void {
    this.emit("close", preventable());
    world.windows.splice(world.windows.indexOf(this), 1);
    this.emit("closed");
    if (world.windows.length === 0) app.emit("window-all-closed");
  }
}

export class Tray extends EventEmitter {
  menu: Any[] = [];
  tip = "";
  constructor() {
    super();
    world.trays.push(this);
  }
  setToolTip = (text: string) => void (this.tip = text);
  setContextMenu = (menu: Any[]) => void (this.menu = menu);
}

export class Notification extends EventEmitter {
  static isSupported = () => true;
  constructor(readonly options: Any) {
    super();
  }
  show = () => void world.notifications.push(this);
}

export const defaultSession = Object.assign(new EventEmitter(), {
  permission: null as ((contents: unknown, permission: string, answer: (ok: boolean) => void) => void) | null,
  check: null as ((contents: unknown, permission: string, origin: string) => boolean) | null,
  device: null as (() => boolean) | null,
  request: null as ((details: { url: string }, answer: (verdict: { cancel?: boolean }) => void) => void) | null,
  setPermissionRequestHandler: (handler: never) => void (defaultSession.permission = handler),
  setPermissionCheckHandler: (handler: never) => void (defaultSession.check = handler),
  setDevicePermissionHandler: (handler: never) => void (defaultSession.device = handler),
  webRequest: { onBeforeRequest: (handler: never) => void (defaultSession.request = handler) },
});

export const app = new FakeApp();
export const session = { defaultSession };
export const shell = { openExternal: (url: string) => Promise.resolve(void world.opened.push(url)) };
export const protocol = {
  registerSchemesAsPrivileged: (schemes: Any[]) => void world.schemes.push(...schemes),
  handle: (scheme: string, handler: (request: Request) => Promise<Response>) =>
    void world.protocols.set(scheme, handler),
};
export const ipcMain = {
  handle: (channel: string, handler: (event: unknown, message: unknown) => unknown) =>
    void world.handlers.set(channel, handler),
};
export const dialog = {
  showOpenDialog: (_over: unknown, options: Any) => {
    world.dialogs.push(options);
    return Promise.resolve(world.dialogAnswer);
  },
};
export const nativeTheme = { shouldUseDarkColors: true };
export const screen = { getAllDisplays: () => [{ workArea: { x: 0, y: 0, width: 1920, height: 1080 } }] };
export const nativeImage = { createFromPath: () => ({ resize: () => ({}) }) };
export const Menu = { buildFromTemplate: (template: Any[]) => template };

/** Ask a channel as the page does, or as somebody else who got hold of one. */
export function ask(channel: string, message?: unknown, sender: "page" | Frame = "page"): unknown {
  const contents = world.windows[0]?.webContents;
  if (contents === undefined) throw new Error("there is no window");
  const handler = world.handlers.get(channel);
  if (handler === undefined) throw new Error(`no handler for ${channel}`);
  const frame = sender === "page" ? contents.mainFrame : sender;
  return handler({ sender: contents, senderFrame: frame }, structuredClone(message));
}
