// The load of the machine as the sidecar tells of it, kept as curves for as long as the page is open, reloads included.
import { useEffect, useSyncExternalStore } from "react";

import type { Resources } from "@contract";
import { useClient, useEvent } from "../../client/hooks";
import type { PumasEvent } from "../../client/types";
import { History } from "../../lib/history";

export interface AppLoad {
  app_id: string;
  tag: string | null;
  pid: number;
  cpu_usage: number;
  ram_memory: number;
  gpu_memory: number;
}

interface Load {
  resources: Resources;
  apps: readonly AppLoad[];
}

const POINTS = 900;
/** In the tab's own storage, so that it ends with the tab and no other tab's curves get into it. */
const KEY = "pumas-load";

export const curves = {
  cpu: new History(1, POINTS),
  ram: new History(1, POINTS),
  gpu: new History(1, POINTS),
  vram: new History(1, POINTS),
  disk: new History(1, POINTS),
};

interface AppCurves {
  cpu: History;
  /** Of the machine, of the GPU. */
  memory: History;
}

const ofApps = new Map<number, AppCurves>();

/** Of the app whose first process has this id. */
export function curvesOf(pid: number): AppCurves {
  const known = ofApps.get(pid) ?? { cpu: new History(1, POINTS), memory: new History(2, POINTS) };
  ofApps.set(pid, known);
  return known;
}

let current: { load: Load | null; version: number } = { load: null, version: 0 };
const watchers = new Set<() => void>();

export function remember({ data }: Pick<PumasEvent, "data">): void {
  const load = data as unknown as Load;
  const now = Date.now() / 1000;
  const { cpu, ram, gpu, gpus, disk } = load.resources;
  curves.cpu.add(now, [cpu.usage]);
  curves.ram.add(now, [ram.used]);
  curves.disk.add(now, [disk.used]);
  if (gpus.length > 0) {
    curves.gpu.add(now, [gpu.usage]);
    curves.vram.add(now, [gpus.reduce((sum, one) => sum + one.memory, 0)]);
  }
  for (const { pid, cpu_usage, ram_memory, gpu_memory } of load.apps) {
    const { cpu: ofCpu, memory } = curvesOf(pid);
    ofCpu.add(now, [cpu_usage]);
    memory.add(now, [ram_memory, gpu_memory]);
  }
  const running = new Set(load.apps.map(({ pid }) => pid));
  for (const pid of ofApps.keys()) if (!running.has(pid)) ofApps.delete(pid);
  current = { load, version: current.version + 1 };
  for (const watcher of watchers) watcher();
}

/** Leave the curves for the page that this tab shows next. */
export function keepCurves(): void {
  const machine = Object.fromEntries(Object.entries(curves).map(([name, history]) => [name, history.data()]));
  const apps = [...ofApps].map(([pid, { cpu, memory }]) => [pid, cpu.data(), memory.data()]);
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ machine, apps }));
  } catch {
    // A browser that stores nothing: they begin anew.
  }
}

/** Go on with the curves of the page that this tab showed before. An app that ended since then loses its own. */
export function goOnWithCurves(): void {
  let kept: { machine?: Record<string, unknown>; apps?: unknown } | null;
  try {
    kept = JSON.parse(sessionStorage.getItem(KEY) ?? "null") as typeof kept;
    sessionStorage.removeItem(KEY);
  } catch {
    return;
  }
  for (const [name, history] of Object.entries(curves)) history.goOnFrom(kept?.machine?.[name]);
  for (const app of Array.isArray(kept?.apps) ? (kept.apps as unknown[]) : []) {
    const [pid, cpu, memory] = Array.isArray(app) ? (app as unknown[]) : [];
    if (typeof pid !== "number") continue;
    curvesOf(pid).cpu.goOnFrom(cpu);
    curvesOf(pid).memory.goOnFrom(memory);
  }
}

/** Follow the load for as long as the page is in view, whichever view it shows: a curve without a past says little. */
export function useFollowLoad(): void {
  const client = useClient();
  useEffect(() => {
    let release: (() => void) | null = null;
    const look = () => {
      if (document.visibilityState === "visible") release ??= client.wantLoad();
      else {
        release?.();
        release = null;
      }
    };
    look();
    document.addEventListener("visibilitychange", look);
    return () => {
      document.removeEventListener("visibilitychange", look);
      release?.();
    };
  }, [client]);
  useEffect(() => {
    goOnWithCurves();
    addEventListener("pagehide", keepCurves);
    return () => removeEventListener("pagehide", keepCurves);
  }, []);
  useEvent("system.resources", remember);
}

export function useLoad(): { load: Load | null; version: number } {
  return useSyncExternalStore(
    (watcher) => {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
    () => current,
  );
}
