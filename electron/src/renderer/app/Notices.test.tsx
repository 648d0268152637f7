import { act } from "react";
import { createRoot } from "react-dom/client";
import { beforeEach, afterEach, expect, it, vi } from "vitest";

import { notify } from "../parts/notices";
import { Dialog } from "../parts/Dialog";
import { shown } from "../testing/shown";
import { Notices } from "./Notices";

let place: HTMLElement;
beforeEach(async () => {
  ({ place } = await shown(<Notices />, () => ({})));
  vi.useFakeTimers();
});
afterEach(() => {
  act(() => void vi.runAllTimers());
  vi.useRealTimers();
});

function after(seconds: number): void {
  act(() => void vi.advanceTimersByTime(seconds * 1000));
}

it("goes by itself, later when something is offered", () => {
  act(() => notify({ tone: "good", text: "Saved." }));
  act(() => notify({ tone: "good", text: "Deleted.", action: { label: "Undo", run: () => undefined } }));
  after(7);
  expect(place.textContent).not.toContain("Saved.");
  expect(place.textContent).toContain("Deleted.");
  after(12.5);
  expect(place.textContent).toContain("Deleted.");
  after(1);
  expect(place.textContent).toBe("");
});

it("stays as long as the keyboard is at one of them", () => {
  act(() => notify({ tone: "good", text: "Saved." }));
  act(() => place.querySelector("button")?.focus());
  after(120);
  expect(place.textContent).toContain("Saved.");
  act(() => place.querySelector("button")?.blur());
  after(2);
  expect(place.textContent).toBe("");
});

it("does not lie over the buttons of a dialog that opens later, and is there again after it", async () => {
  vi.useRealTimers();
  const { place: page } = await shown(<Notices />, () => ({}));
  vi.useFakeTimers();
  act(() => notify({ tone: "good", text: "Deleted.", action: { label: "Undo", run: () => undefined } }));
  const root = createRoot(document.body.appendChild(document.createElement("div")));
  act(() => root.render(<Dialog title="Trash" onClose={() => undefined}>empty</Dialog>)); // prettier-ignore
  expect(page.textContent).toBe("");
  act(() => notify({ tone: "bad", text: "That did not work." }));
  expect(page.textContent).toBe("That did not work.");
  act(() => root.unmount());
  expect(page.textContent).toContain("Deleted.");
  after(19);
  expect(page.textContent).toContain("Undo");
});
