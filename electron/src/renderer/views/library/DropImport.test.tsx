import { act } from "react";
import { expect, it } from "vitest";

import { shown } from "../../testing/shown";
import DropImport from "./DropImport";

const TEXT = "Drop to import";

function tell(kind: string, relatedTarget: EventTarget | null = null, types = ["Files"]): Event {
  const event = Object.assign(new Event(kind, { bubbles: true, cancelable: true }), { dataTransfer: { types } });
  Object.defineProperty(event, "relatedTarget", { value: relatedTarget });
  act(() => void document.body.dispatchEvent(event));
  return event;
}

it("takes also what was over the page before it listened", async () => {
  const { place } = await shown(<DropImport />, () => ({}));
  expect(tell("dragover").defaultPrevented).toBe(true);
  expect(place.textContent).toBe(TEXT);
});

it("does not stay when what was entered went away, and stays while only elements change", async () => {
  const { place } = await shown(<DropImport />, () => ({}));
  tell("dragenter");
  tell("dragenter"); // its element is removed: nothing ever leaves it
  tell("dragleave", document.body);
  expect(place.textContent).toBe(TEXT);
  tell("dragleave");
  expect(place.textContent).toBe("");
});

it("is not for other things than files", async () => {
  const { place } = await shown(<DropImport />, () => ({}));
  expect(tell("dragover", null, ["text/plain"]).defaultPrevented).toBe(false);
  expect(place.textContent).toBe("");
});
