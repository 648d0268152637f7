import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { keepFocus } from "./keepFocus";

let stop: () => void;
beforeEach(() => {
  vi.useFakeTimers();
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
afterEach(() => {
  stop();
  vi.useRealTimers();
});

/** Let happen all that the changes so far lead to. */
const settle = () => vi.runAllTimersAsync();
const focused = () => document.activeElement?.id;
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
  await settle();
  expect(focused()).toBe(to);
});

it("leaves the focus where somebody else has put it", async () => {
  get("b1").focus();
  get("b").remove();
  get("a2").focus();
  await settle();
  expect(focused()).toBe("a2");
});

it("keeps it also when a press of the button itself takes it away", async () => {
  get("b1").addEventListener("click", () => get("b").remove());
  get("b1").focus();
  get("b1").click();
  await settle();
  expect(focused()).toBe("c1");
});

it("does nothing while what is focused stays", async () => {
  get("b1").focus();
  get("c").remove();
  await settle();
  expect(focused()).toBe("b1");
});

describe("what is only disabled", () => {
  /** As in a browser, where it loses the focus; jsdom leaves it there, and lets nobody take it away afterwards. */
  function disable(id: string): void {
    get(id).focus();
    get(id).blur();
    get(id).setAttribute("disabled", "");
  }

  it("keeps its claim: nothing is focused until it can be used again", async () => {
    disable("b1");
    await settle();
    get("c").remove();
    await settle();
    expect(focused(), "while it is disabled").toBe("");
    get("b1").removeAttribute("disabled");
    await settle();
    expect(focused()).toBe("b1");
  });

  it("keeps it also when it is disabled again at once", async () => {
    disable("b1");
    await settle();
    get("b1").removeAttribute("disabled");
    await Promise.resolve();
    get("b1").setAttribute("disabled", "");
    await settle();
    expect(focused(), "while it is disabled").toBe("");
    get("b1").removeAttribute("disabled");
    await settle();
    expect(focused()).toBe("b1");
  });

  it("gives way to its neighbour when it goes away", async () => {
    disable("b1");
    await settle();
    get("b1").remove();
    await settle();
    expect(focused()).toBe("b2");
  });

  it.each<[string, () => void, string]>([
    ["has focused something else", () => get("a2").focus(), "a2"],
    [
      "has clicked beside everything",
      () => document.body.dispatchEvent(new Event("pointerdown", { bubbles: true })),
      "",
    ],
  ])("has no claim any more once a person %s", async (_, leave, to) => {
    disable("b1");
    await settle();
    leave();
    get("b1").removeAttribute("disabled");
    await settle();
    expect(focused()).toBe(to);
  });
});

it("takes a view that is replaced for its successor, not for what stands before it", async () => {
  document.body.insertAdjacentHTML("afterbegin", '<a id="skip" href="#content"></a>');
  get("content").focus();
  get("content").outerHTML = '<main id="content" tabindex="-1"></main>';
  await settle();
  expect(focused()).toBe("content");
});
