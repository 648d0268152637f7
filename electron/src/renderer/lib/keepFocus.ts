// Where the keyboard is when what it was on goes away: a browser gives up and begins at the document's start, so that
// whoever closes, pauses or deletes something by keyboard would have to walk back. Here the nearest that is left is
// focused. What is only disabled, such as a button during its call, has the focus again when it can be used again: until
// then nothing has it, so that a second Enter presses nothing else. Dialogs give the focus back by themselves and come
// first.

const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";

function focusables(within: Element): HTMLElement[] {
  return [...within.querySelectorAll<HTMLElement>(FOCUSABLE)].filter(
    (one) => one.tabIndex >= 0 && !one.matches(":disabled") && !one.closest("[hidden], [inert]"),
  );
}

/** The places around an element, from the nearest on, with which of their focusable elements it is. */
function surroundings(element: HTMLElement): { place: Element; index: number }[] {
  const found: { place: Element; index: number }[] = [];
  if (element.matches("main")) return found; // of another view the whole is next, not what stands before it
  for (let place = element.parentElement; place !== null; place = place.parentElement) {
    found.push({ place, index: focusables(place).indexOf(element) });
    if (place.matches("main, [role=dialog]")) break;
  }
  return found;
}

/** Keep the focus near where it was lost; returns how to stop. `fallback` is where it goes when nothing is left. */
export function keepFocus(fallback: () => HTMLElement | null): () => void {
  let last: HTMLElement | null = null;
  let around: ReturnType<typeof surroundings> = [];
  let wasDisabled = false;
  let waiting: ReturnType<typeof setTimeout> | undefined;
  const remember = ({ target }: FocusEvent) => {
    if (!(target instanceof HTMLElement)) return;
    last = target;
    around = surroundings(target);
    wasDisabled = false;
  };
  const isDisabled = () => last?.isConnected === true && last.matches(":disabled");
  const look = () => {
    waiting = undefined;
    if (last === null || document.activeElement !== document.body || isDisabled()) return;
    if (last.isConnected) {
      last.focus({ preventScroll: true });
      return;
    }
    last = null;
    for (const { place, index } of around) {
      const left = place.isConnected ? focusables(place) : [];
      const next = left[Math.min(Math.max(index, 0), left.length - 1)];
      next?.focus({ preventScroll: true });
      if (next !== undefined && document.activeElement === next) return;
    }
    fallback()?.focus({ preventScroll: true });
  };
  const changes = new MutationObserver(() => {
    if (last === null) return;
    if (isDisabled()) {
      wasDisabled = true;
    } else if (wasDisabled || !last.isConnected) {
      wasDisabled = false;
      waiting ??= setTimeout(look); // after those who give the focus back by themselves
    }
  });
  // A person who clicks beside everything wants the focus nowhere.
  const leave = ({ target }: PointerEvent) => {
    if (target instanceof Element && target.closest(FOCUSABLE) === null) last = null;
  };
  document.addEventListener("focusin", remember);
  document.addEventListener("pointerdown", leave);
  changes.observe(document.body, { subtree: true, childList: true, attributeFilter: ["disabled"] });
  return () => {
    clearTimeout(waiting);
    changes.disconnect();
    document.removeEventListener("focusin", remember);
    document.removeEventListener("pointerdown", leave);
  };
}
