import { act, type ReactNode } from "react";
import { createRoot } from "react-dom/client";
import { afterEach, expect, it, vi } from "vitest";

import { ViewBoundary } from "./ViewBoundary";

vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true);
afterEach(() => vi.restoreAllMocks());

function Breaks(): never {
  throw new Error("the chunk is gone");
}

it("shows what is inside, and what to do when that breaks", () => {
  vi.spyOn(console, "error").mockImplementation(() => undefined);
  const place = document.createElement("div");
  const root = createRoot(place);
  const show = (key: string, inside: ReactNode) => {
    act(() => {
      root.render(<ViewBoundary key={key}>{inside}</ViewBoundary>);
    });
  };
  show("a", "fine");
  expect(place.textContent).toBe("fine");
  show("b", <Breaks />);
  expect(place.textContent).toContain("the chunk is gone");
  expect(place.querySelector("button")?.textContent).toBe("Reload");
  show("c", "another view");
  expect(place.textContent).toBe("another view");
});
