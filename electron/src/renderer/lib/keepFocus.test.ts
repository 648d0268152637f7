import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { keepFocus } from "./keepFocus";

let stop: () => void;
beforeEach(() => {
  document.body.innerHTML = `
    <main id="content" tabindex="-1">
      <ul>
        <li><button id="a1"></button><button id="a2"></button></li>
        <li id="b"><button id="b1"></button><button id="b2"></button></li>
        <li id="c"><button id="c1"></button></li>
      </ul>
    </main>`;
  stop = keepFocus(() => document.getElementById("content"));
});
afterEach(() => stop());

const get = (id: string): HTMLElement => document.getElementById(id) ?? expect.fail(id);

it.each<[string, string, () => void, string]>([
  ["its neighbour takes over", "b1", () => get("b1").remove(), "b2"],
  ["the next row takes over", "b1", () => get("b").remove(), "c1"],
  ["the row before takes over when it was the last", "c1", () => get("c").remove(), "b2"],
  ["what stands in its place takes over", "b1", () => void (get("b1").outerHTML = '<button id="new"></button>'), "new"],
  ["the view itself, when nothing is left", "b1", () => get("content").replaceChildren(), "content"],
])("%s", async (_, from, change, to) => {
  get(from).focus();
  change();
  await vi.waitFor(() => expect(document.activeElement?.id).toBe(to));
});

it("leaves the focus where somebody else has put it", async () => {
  get("b1").focus();
  get("b").remove();
  get("a2").focus();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(document.activeElement?.id).toBe("a2");
});

it("keeps it also when a press of the button itself takes it away", async () => {
  get("b1").addEventListener("click", () => get("b").remove());
  get("b1").focus();
  get("b1").click();
  await vi.waitFor(() => expect(document.activeElement?.id).toBe("c1"));
});

it("does nothing while what is focused stays", async () => {
  get("b1").focus();
  get("c").remove();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(document.activeElement?.id).toBe("b1");
});
