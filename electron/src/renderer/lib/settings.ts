// What a person chose for this page on this machine. Kept in the browser; nothing of it concerns the sidecar.
import { useSyncExternalStore } from "react";

export interface PageSettings {
  language: "auto" | "en" | "de";
  theme: "auto" | "dark" | "light";
  /** Whether keys without Ctrl or Alt, such as `/`, do something wherever one is (WCAG 2.1.4). */
  singleKeys: "on" | "off";
}

const KEY = "pumas-page";
const DEFAULTS: PageSettings = { language: "auto", theme: "auto", singleKeys: "on" };
const CHOICES: { [K in keyof PageSettings]: readonly PageSettings[K][] } = {
  language: ["auto", "en", "de"],
  theme: ["auto", "dark", "light"],
  singleKeys: ["on", "off"],
};

let current = read();
const watchers = new Set<() => void>();
addEventListener("storage", ({ key }) => {
  if (key === KEY) become(read());
});

export function usePageSettings(): PageSettings {
  return useSyncExternalStore(
    (watcher) => {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
    () => current,
  );
}

export function changePageSettings(changes: Partial<PageSettings>): void {
  const next = { ...current, ...changes };
  try {
    localStorage.setItem(KEY, JSON.stringify(next));
  } catch {
    // A browser that stores nothing: it holds until the page is closed.
  }
  become(next);
}

function become(next: PageSettings): void {
  current = next;
  showTheme();
  for (const watcher of watchers) watcher();
}

/** The style sheet follows `prefers-color-scheme` unless the document names a theme. */
export function showTheme(): void {
  if (current.theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = current.theme;
}

function read(): PageSettings {
  let stored: unknown;
  try {
    stored = JSON.parse(localStorage.getItem(KEY) ?? "{}");
  } catch {
    stored = {};
  }
  const given = (typeof stored === "object" && stored !== null ? stored : {}) as Partial<PageSettings>;
  return {
    language: CHOICES.language.find((one) => one === given.language) ?? DEFAULTS.language,
    theme: CHOICES.theme.find((one) => one === given.theme) ?? DEFAULTS.theme,
    singleKeys: CHOICES.singleKeys.find((one) => one === given.singleKeys) ?? DEFAULTS.singleKeys,
  };
}
