// The one window: made hidden, shown when it has something to show, at the place where it was left.
import type { BrowserWindow, BrowserWindowConstructorOptions, Rectangle, Screen } from "electron";

import { ADDRESS } from "./page";
import { WEB_PREFERENCES } from "./security";

const SMALLEST = { minWidth: 720, minHeight: 480 };
const USUAL = { width: 1280, height: 860 };
const DARK = "#14161a";
const LIGHT = "#ffffff";

export function windowOptions(
  preload: string,
  icon: string,
  dark: boolean,
  place: Rectangle | null,
): BrowserWindowConstructorOptions {
  return {
    ...USUAL,
    ...place,
    ...SMALLEST,
    title: "Pumas",
    icon,
    show: false,
    autoHideMenuBar: true,
    backgroundColor: dark ? DARK : LIGHT,
    webPreferences: { ...WEB_PREFERENCES, preload },
  };
}

/** Where the window was, if any of that is on a screen that is still there. */
export function visiblePlace(place: Rectangle | null, screen: Pick<Screen, "getAllDisplays">): Rectangle | null {
  if (place === null) return null;
  const seen = screen.getAllDisplays().some(({ workArea: area }) => {
    const across = Math.min(place.x + place.width, area.x + area.width) - Math.max(place.x, area.x);
    const down = Math.min(place.y + place.height, area.y + area.height) - Math.max(place.y, area.y);
    return across >= 100 && down >= 100;
  });
  return seen ? place : null;
}

export async function showPage(window: BrowserWindow): Promise<void> {
  window.once("ready-to-show", () => window.show());
  await window.loadURL(ADDRESS);
}

export function bringToFront(window: BrowserWindow): void {
  if (window.isMinimized()) window.restore();
  window.show();
  window.focus();
}
