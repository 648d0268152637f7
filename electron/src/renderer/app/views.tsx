// The views: their icons, and their code, which is fetched after the first view is there. That is the library.
import { Activity, Boxes, Compass, Download, HardDrive, Library as Books, Settings as Cog } from "lucide-react";
import { lazy, type ComponentType } from "react";

import type { View } from "../lib/route";
import { Library } from "../views/library/Library";

export const VIEW_ICONS: Record<View, ComponentType<{ "aria-hidden": boolean }>> = {
  library: Books,
  discover: Compass,
  downloads: Download,
  apps: Boxes,
  monitor: Activity,
  stores: HardDrive,
  settings: Cog,
};

type Loaded = Promise<{ default: ComponentType<{ item: string }> }>;

const LATER = {
  discover: () => import("../views/discover/Discover"),
  downloads: () => import("../views/downloads/Downloads"),
  apps: () => import("../views/apps/Apps"),
  monitor: () => import("../views/monitor/Monitor"),
  stores: () => import("../views/stores/Stores"),
  settings: () => import("../views/settings/Settings"),
} satisfies Partial<Record<View, () => Loaded>>;

export const VIEW_COMPONENTS: Record<View, ComponentType<{ item: string }>> = {
  library: Library,
  discover: lazy(LATER.discover),
  downloads: lazy(LATER.downloads),
  apps: lazy(LATER.apps),
  monitor: lazy(LATER.monitor),
  stores: lazy(LATER.stores),
  settings: lazy(LATER.settings),
};

/** Fetch the code of all views, so that each opens at once, also while the sidecar is away. */
export async function fetchViews(): Promise<void> {
  for (const load of Object.values(LATER)) {
    await new Promise((resolve) => requestIdleCallback(resolve)); // running it must not be felt
    await load().catch(() => undefined); // whoever opens it is told
  }
}
