import { act } from "react";
import { beforeEach, afterEach, expect, it, vi } from "vitest";

import { notify } from "../parts/notices";
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
