// Keys that work everywhere. Views have their own for lists; all are shown by `ShortcutList`.
import { useEffect, useRef } from "react";

import { usePageSettings } from "../lib/settings";
import type { TextKey, Texts } from "../texts/texts";

const IS_MAC = /Mac OS|iP(hone|ad)/.test(navigator.userAgent);

/** Keys whose caps say something else in other languages. */
const CAPS: Readonly<Record<string, TextKey>> = { ctrl: "key.ctrl", delete: "key.delete" };

export const SHORTCUTS = {
  palette: { keys: IS_MAC ? "⌘ K" : "{ctrl} K", text: "shortcuts.palette" },
  search: { keys: "/", text: "shortcuts.search" },
  views: { keys: IS_MAC ? "⌥ 1–7" : "Alt 1–7", text: "shortcuts.views" },
  move: { keys: "↑ ↓", text: "shortcuts.move" },
  open: { keys: "↵", text: "shortcuts.open" },
  close: { keys: "Esc", text: "shortcuts.close" },
  delete: { keys: IS_MAC ? "⌫" : "{delete}", text: "shortcuts.delete" },
  help: { keys: "?", text: "shortcuts.help" },
} as const satisfies Record<string, { keys: string; text: TextKey }>;

export function keyName(shortcut: keyof typeof SHORTCUTS, { t }: Texts): string {
  return SHORTCUTS[shortcut].keys.replace(/\{(\w+)\}/g, (all, cap: string) => {
    const key = CAPS[cap];
    return key === undefined ? all : t(key);
  });
}

export interface Actions {
  palette: () => void;
  help: () => void;
  view: (number: number) => void;
}

/** Whether keys go into a text at the moment. */
export function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))
  );
}

export function useShortcuts(actions: Actions): void {
  const latest = useRef(actions);
  useEffect(() => {
    latest.current = actions;
  });
  const singleKeys = usePageSettings().singleKeys === "on";
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const number = /^Digit([1-9])$/.exec(event.code)?.[1];
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") latest.current.palette();
      else if (event.altKey && number !== undefined) latest.current.view(Number(number));
      else if (event.key === "?" && singleKeys && !isTyping(event.target)) latest.current.help();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [singleKeys]);
}
