import { act } from "react";
import { expect, it, vi } from "vitest";

import { shown } from "../testing/shown";
import { Button } from "./Button";

it("keeps the focus when its own press disables it, and does nothing until it can be pressed again", async () => {
  const sent = vi.fn((event: Event) => event.preventDefault());
  const pressed = vi.fn();
  const draw = (disabled: boolean) => (
    <form>
      <Button type="submit" disabled={disabled} onClick={pressed}>
        Save
      </Button>
    </form>
  );
  const { place, redraw } = await shown(draw(false), () => ({}));
  place.querySelector("form")?.addEventListener("submit", sent);
  const button = place.querySelector("button") ?? expect.fail("no button");
  act(() => button.focus());
  await redraw(draw(true));
  expect(document.activeElement).toBe(button);
  expect(button.ariaDisabled).toBe("true");
  act(() => button.click());
  expect(pressed).not.toHaveBeenCalled();
  expect(sent).not.toHaveBeenCalled();
  act(() => button.blur());
  expect(button.matches(":disabled")).toBe(true);
  await redraw(draw(false));
  act(() => button.click());
  expect(pressed).toHaveBeenCalledOnce();
  expect(sent).toHaveBeenCalledOnce();
});
