import { act } from "react";
import { expect, it, vi } from "vitest";

import { shown } from "../../testing/shown";
import { ProcessLog } from "./ProcessLog";

const first = { success: true, lines: ["one"], log_path: "/log", cut: false };

async function log() {
  const { place, tell } = await shown(<ProcessLog appId="comfyui" />, () => first);
  const box = place.querySelector<HTMLElement>("[role=log]") ?? expect.fail("no log");
  const says = (lines: string[], skipped_bytes = 0) => tell("process.log", { app_id: "comfyui", lines, skipped_bytes });
  return { place, box, says };
}

it("says where an app prints more than can be followed", async () => {
  const { box, says } = await log();
  says(["two"]);
  expect(box.textContent).toBe("one\ntwo\n");
  says(["nine"], 3 * 1024 * 1024);
  expect(box.textContent).toMatch(/^one\ntwo\n… 3 MiB not shown.*\nnine\n$/);
});

it("follows the end until somebody scrolls back, and again from there on", async () => {
  const { place, box, says } = await log();
  vi.spyOn(box, "scrollHeight", "get").mockReturnValue(1000);
  vi.spyOn(box, "clientHeight", "get").mockReturnValue(200);
  const scroll = (top: number) => {
    box.scrollTop = top;
    box.dispatchEvent(new Event("scroll", { bubbles: true }));
  };
  const follows = () => place.querySelector("[role=switch]")?.getAttribute("aria-checked");
  const reads = (line: string) => {
    says([line]);
    // Where jsdom puts it; a browser stops at 800.
    if (box.scrollTop === 1000) act(() => scroll(800));
    return box.scrollTop;
  };
  expect(reads("two")).toBe(800);
  act(() => scroll(500));
  expect(follows()).toBe("false");
  expect(reads("three")).toBe(500);
  act(() => scroll(700)); // down, but not to the end
  expect(follows()).toBe("false");
  act(() => scroll(800));
  expect(follows()).toBe("true");
  act(() => scroll(790)); // not even a line
  expect(reads("four")).toBe(800);
});
