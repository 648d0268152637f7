// Builds the desktop shell out of its parts and takes it down again. Electron comes as an argument, so that the whole
// of it can be run against a stand-in.
import { join } from "node:path";

import type { BrowserWindow, MenuItemConstructorOptions } from "electron";

import { type SidecarState, type StreamMessage, type ShellSettings } from "../preload/bridge";
import { TELL } from "../preload/channels";
import { type Places, chooseBackend } from "./backend";
import { answerPage } from "./ipc";
import { type Finished, Jobs } from "./jobs";
import { HIDDEN, setOpenAtLogin } from "./login";
import { PRIVILEGES, SCHEME, servePage } from "./page";
import { guardContents, guardSession } from "./security";
import { Settings } from "./settings";
import { LIMITS, type Limits, Sidecar } from "./sidecar";
import { Stream } from "./stream";
import { textsFor } from "./texts";
import { TrayIcon } from "./tray";
import { bringToFront, showPage, visiblePlace, windowOptions } from "./window";

export type Electron = typeof import("electron");

export interface Surroundings {
  readonly places: Places;
  /** The built shell: `renderer/`, `preload/`, and beside it the icon. */
  readonly dist: string;
  readonly icon: string;
  readonly arguments: readonly string[];
  readonly variables: NodeJS.ProcessEnv;
  readonly limits?: Limits;
}

export function run(electron: Electron, surroundings: Surroundings): void {
  const { app, protocol, shell } = electron;
  if (!app.requestSingleInstanceLock()) {
    app.quit(); // the first one is told, and shows its window
    return;
  }
  app.enableSandbox();
  protocol.registerSchemesAsPrivileged([{ scheme: SCHEME, privileges: PRIVILEGES }]);
  guardContents(app, shell);
  const desktop = new Desktop(electron, surroundings);
  app.on("second-instance", () => void desktop.show());
  app.on("activate", () => void desktop.show());
  app.on("window-all-closed", () => desktop.windowClosed());
  app.on("before-quit", () => desktop.willQuit());
  app.on("will-quit", (event) => desktop.quit(event));
  void app.whenReady().then(() => desktop.ready());
}

class Desktop {
  private readonly sidecar: Sidecar;
  private readonly stream: Stream;
  private readonly jobs = new Jobs();
  private readonly settings: Settings;
  private window: BrowserWindow | null = null;
  private tray: TrayIcon | null = null;
  private following = false;
  private quitting = false;
  private stopped = false;

  constructor(
    private readonly electron: Electron,
    private readonly around: Surroundings,
  ) {
    const { places, variables, limits } = around;
    this.sidecar = new Sidecar(() => chooseBackend(places, variables), variables, limits ?? LIMITS);
    this.stream = new Stream(this.sidecar);
    this.settings = new Settings(join(electron.app.getPath("userData"), "shell.json"));
  }

  async ready(): Promise<void> {
    const { app, protocol, session, ipcMain, dialog } = this.electron;
    const texts = textsFor(app.getLocale());
    guardSession(session.defaultSession);
    protocol.handle(SCHEME, servePage(join(this.around.dist, "renderer")));
    this.sidecar.on("state", (state) => this.tell(TELL.sidecar, state));
    this.sidecar.on("connected", (connection) => void this.jobs.load(connection).catch(() => undefined));
    this.stream.listen((message) => this.heard(message));
    this.jobs.on("finished", (job) => this.announce(job));
    answerPage(ipcMain, {
      sidecar: this.sidecar,
      stream: this.stream,
      dialog,
      texts,
      window: () => this.window,
      settings: () => this.settings.shared,
      change: (change) => this.change(change),
      follow: () => this.follow(),
    });
    this.sidecar.start();
    this.tray = this.makeTray();
    this.jobs.on("downloads", (downloads) => {
      this.tray?.show(downloads);
      this.window?.setProgressBar(downloads.count > 0 ? (downloads.progress ?? 2) : -1);
    });
    if (!this.around.arguments.includes(HIDDEN)) await this.show();
  }

  async show(): Promise<void> {
    if (this.window !== null) {
      bringToFront(this.window);
      return;
    }
    const { BrowserWindow, nativeTheme, screen } = this.electron;
    const { dist, icon } = this.around;
    const place = visiblePlace(this.settings.place, screen);
    const preload = join(dist, "preload", "preload.cjs");
    const window = new BrowserWindow(windowOptions(preload, icon, nativeTheme.shouldUseDarkColors, place));
    this.window = window;
    window.on("close", () => void this.settings.change({ place: window.getNormalBounds() }).catch(() => undefined));
    window.on("closed", () => this.forget(window));
    window.webContents.on("render-process-gone", (_event, { reason }) => {
      if (reason !== "clean-exit" && !this.quitting) window.webContents.reload();
    });
    // A page that is loaded anew listens only after it has asked to.
    window.webContents.on("did-start-navigation", ({ isMainFrame, isSameDocument }) => {
      if (isMainFrame && !isSameDocument) this.following = false;
    });
    await showPage(window);
  }

  windowClosed(): void {
    if (!this.settings.shared.keepInTray || this.tray === null) this.electron.app.quit();
  }

  willQuit(): void {
    this.quitting = true;
  }

  /** Nothing of ours outlives us: the end waits for the sidecar's. */
  quit(event: { preventDefault(): void }): void {
    if (this.stopped) return;
    event.preventDefault();
    void this.sidecar.stop().finally(() => {
      this.stopped = true;
      this.electron.app.quit();
    });
  }

  private forget(window: BrowserWindow): void {
    if (this.window === window) this.window = null;
    this.following = false;
    this.stream.followLoad(false);
  }

  private follow(): void {
    this.following = true;
    // The page missed that the stream was opened, if it was.
    if (this.stream.open) this.tell(TELL.stream, { type: "opened", gap: false } satisfies StreamMessage);
  }

  private heard(message: StreamMessage): void {
    this.jobs.hear(message);
    if (this.following) this.tell(TELL.stream, message);
  }

  private tell(channel: string, message: StreamMessage | SidecarState): void {
    const contents = this.window?.webContents;
    if (contents && !contents.isDestroyed()) contents.send(channel, message);
  }

  private async change(change: Partial<ShellSettings>): Promise<ShellSettings> {
    if (change.openAtLogin !== undefined) {
      const config = this.around.variables.XDG_CONFIG_HOME ?? join(this.electron.app.getPath("home"), ".config");
      await setOpenAtLogin(this.electron.app, { config, command: this.ownCommand() }, change.openAtLogin);
    }
    await this.settings.change(change);
    return this.settings.shared;
  }

  private ownCommand(): string[] {
    const { app } = this.electron;
    const program = this.around.variables.APPIMAGE ?? app.getPath("exe");
    return app.isPackaged ? [program] : [program, app.getAppPath()];
  }

  private announce({ kind, title, ok, error }: Finished): void {
    const { Notification, app } = this.electron;
    if (!this.settings.shared.notifications || this.window?.isFocused() || !Notification.isSupported()) return;
    const texts = textsFor(app.getLocale());
    const done = kind === "install" ? texts.installDone : texts.downloadDone;
    const failed = kind === "install" ? texts.installFailed : texts.downloadFailed;
    const body = error === null || ok ? title : `${title}: ${error}`;
    const notification = new Notification({ title: ok ? done : failed, body, icon: this.around.icon });
    notification.on("click", () => void this.show());
    notification.show();
  }

  private makeTray(): TrayIcon | null {
    const { Tray, Menu, nativeImage, app } = this.electron;
    const actions = { open: () => void this.show(), quit: () => app.quit() };
    try {
      const tray = new Tray(nativeImage.createFromPath(this.around.icon).resize({ width: 22, height: 22 }));
      const setMenu = (to: typeof tray, template: MenuItemConstructorOptions[]) =>
        to.setContextMenu(Menu.buildFromTemplate(template));
      return new TrayIcon(tray, setMenu, textsFor(app.getLocale()), actions);
    } catch {
      return null; // a desktop without a tray: closing the window then ends the shell
    }
  }
}
