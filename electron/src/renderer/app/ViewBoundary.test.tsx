import { act, type ReactNode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, expect, it, vi } from "vitest";

import type { Client, Connection } from "../client/client";
import { ClientContext } from "../client/hooks";
import { ViewBoundary } from "./ViewBoundary";

vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true);

function Breaks(): never {
  throw new Error("the chunk is gone");
}

let connection: Connection;
let watchers: Set<() => void>;
let place: HTMLElement;
let root: Root;
const reload = vi.fn();
beforeEach(() => {
  vi.spyOn(console, "error").mockImplementation(() => undefined);
  reload.mockClear();
  connection = "open";
  watchers = new Set();
  place = document.createElement("div");
  root = createRoot(place);
});
afterEach(() => vi.restoreAllMocks());

function show(key: string, inside: ReactNode): void {
  const client = {
    get connection() {
      return connection;
    },
    watchConnection: (watcher: () => void) => {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
  } as unknown as Client;
  act(() => {
    root.render(
      <ClientContext value={client}>
        <ViewBoundary key={key} reload={reload}>
          {inside}
        </ViewBoundary>
      </ClientContext>,
    );
  });
}

function become(next: Connection): void {
  connection = next;
  act(() => watchers.forEach((watcher) => watcher()));
}

it("shows what is inside, and what to do when that breaks", () => {
  show("a", "fine");
  expect(place.textContent).toBe("fine");
  show("b", <Breaks />);
  expect(place.textContent).toContain("the chunk is gone");
  act(() => place.querySelector("button")?.click());
  expect(reload).toHaveBeenCalledOnce();
  show("c", "another view");
  expect(place.textContent).toBe("another view");
});

it("loads the page anew when the sidecar is back, and only then", () => {
  show("a", <Breaks />);
  expect(reload).not.toHaveBeenCalled();
  become("unreachable");
  expect(reload).not.toHaveBeenCalled();
  become("open");
  expect(reload).toHaveBeenCalledOnce();
});
