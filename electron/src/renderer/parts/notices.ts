// Short messages about what just happened. They are read out, and go by themselves after a time.
import { useSyncExternalStore } from "react";

export interface Notice {
  id: number;
  tone: "good" | "bad";
  text: string;
  hint?: string | undefined;
  action?: { label: string; run: () => void } | undefined;
}

const GOOD_MS = 6_000;
const BAD_MS = 15_000;
/** Who cannot use a pointer needs time to get to what is offered (WCAG 2.2.1). */
const OFFER_MS = 20_000;
const MOST = 4;

let shown: readonly Notice[] = [];
let visible = shown;
let next = 1;
/** Those before it were there before the dialog that is open. */
let firstShown = 0;
const watchers = new Set<() => void>();

export function notify(notice: Omit<Notice, "id">): void {
  become([...shown, { ...notice, id: next++ }].slice(-MOST));
}

/** How long a notice is shown when nobody is at it. */
export function patienceMs({ tone, action }: Notice): number {
  if (action !== undefined) return OFFER_MS;
  return tone === "bad" ? BAD_MS : GOOD_MS;
}

export function dismiss(id: number): void {
  become(shown.filter((notice) => notice.id !== id));
}

/**
 * While a dialog is open, what was said before it waits: it would lie over the dialog's buttons. Returns how to show it
 * again.
 */
export function holdBack(): () => void {
  const before = firstShown;
  firstShown = next;
  become(shown);
  return () => {
    firstShown = before;
    become(shown);
  };
}

export function useNotices(): readonly Notice[] {
  return useSyncExternalStore(
    (watcher) => {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
    () => visible,
  );
}

function become(notices: readonly Notice[]): void {
  shown = notices;
  visible = shown.filter(({ id }) => id >= firstShown);
  for (const watcher of watchers) watcher();
}
