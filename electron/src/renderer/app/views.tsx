// The views: their icons, and their code, which is fetched when one is first opened. The library is the first view.
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

export const VIEW_COMPONENTS: Record<View, ComponentType<{ item: string }>> = {
  library: Library,
  discover: lazy(() => import("../views/discover/Discover")),
  downloads: lazy(() => import("../views/downloads/Downloads")),
  apps: lazy(() => import("../views/apps/Apps")),
  monitor: lazy(() => import("../views/monitor/Monitor")),
  stores: lazy(() => import("../views/stores/Stores")),
  settings: lazy(() => import("../views/settings/Settings")),
};
