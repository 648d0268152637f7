// The icon beside the clock: downloads at a glance, and the way back to the window.
import type { MenuItemConstructorOptions, Tray } from "electron";

import type { Downloads } from "./jobs";
import type { Texts } from "./texts";

export interface TrayActions {
  readonly open: () => void;
  readonly quit: () => void;
}

export function trayMenu(texts: Texts, downloads: Downloads, actions: TrayActions): MenuItemConstructorOptions[] {
  return [
    { label: texts.open, click: actions.open },
    { type: "separator" },
    { label: downloadsLine(texts, downloads), enabled: false },
    { type: "separator" },
    { label: texts.quit, click: actions.quit },
  ];
}

export function downloadsLine(texts: Texts, { count, progress }: Downloads): string {
  return count === 0 ? texts.idle : texts.downloading(count, Math.floor((progress ?? 0) * 100));
}

export class TrayIcon {
  constructor(
    private readonly tray: Tray,
    private readonly setMenu: (tray: Tray, template: MenuItemConstructorOptions[]) => void,
    private readonly texts: Texts,
    private readonly actions: TrayActions,
  ) {
    tray.on("click", actions.open);
    this.show({ count: 0, progress: null });
  }

  show(downloads: Downloads): void {
    this.tray.setToolTip(`Pumas: ${downloadsLine(this.texts, downloads)}`);
    this.setMenu(this.tray, trayMenu(this.texts, downloads, this.actions));
  }
}
