// Where the page is, kept in the address's fragment so that reload and back work without any server.
import { useSyncExternalStore } from "react";

export const VIEWS = ["library", "discover", "downloads", "apps", "monitor", "stores", "settings"] as const;
export type View = (typeof VIEWS)[number];

export interface Route {
  view: View;
  /** What is open in the view, for example a model's id; "" for nothing. */
  item: string;
}

export function parseRoute(hash: string): Route {
  const [view = "", ...rest] = hash.replace(/^#\/?/, "").split("/");
  const known = VIEWS.find((one) => one === view);
  if (known === undefined) return { view: "library", item: "" };
  return { view: known, item: rest.map(decode).join("/") };
}

export function routeHash({ view, item }: Route): string {
  return `#/${[view, ...item.split("/").filter((part) => part !== "")].map(encodeURIComponent).join("/")}`;
}

export function go(view: View, item = ""): void {
  const hash = routeHash({ view, item });
  if (hash !== location.hash) location.hash = hash;
}

/** As `go`, without a step in the history: for moving through a list. */
export function show(view: View, item: string): void {
  history.replaceState(null, "", routeHash({ view, item }));
  dispatchEvent(new HashChangeEvent("hashchange"));
}

export function useRoute(): Route {
  const hash = useSyncExternalStore(watch, () => location.hash);
  return parseRoute(hash);
}

function watch(changed: () => void): () => void {
  addEventListener("hashchange", changed);
  return () => removeEventListener("hashchange", changed);
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
