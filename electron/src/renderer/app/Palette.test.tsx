import { act } from "react";
import { expect, it } from "vitest";

import { settle, shown } from "../testing/shown";
import { Notices } from "./Notices";
import Palette from "./Palette";

Element.prototype.scrollIntoView = () => undefined;
globalThis.ResizeObserver = class { observe = () => undefined; unobserve = () => undefined; disconnect = () => undefined; }; // prettier-ignore

it("says what came of verifying all models, also when the palette is long gone", async () => {
  let job: object = { job_id: "7", state: "running", result: null };
  const { place, tell, redraw } = await shown(
    <>
      <Notices />
      <Palette onClose={() => undefined} onShortcuts={() => undefined} />
    </>,
    (method) => (method === "get_job" ? { success: true, job } : { success: true, job_id: "7" }),
  );
  const command = [...document.querySelectorAll<HTMLElement>("[cmdk-item]")].find((one) =>
    one.textContent.startsWith("Verify"),
  );
  act(() => command?.click());
  await redraw(<Notices />);
  expect(place.textContent).toContain("being compared");
  job = { job_id: "7", state: "completed", result: { ok: 3, recorded: 1, mismatch: 2 } };
  tell("job.state", { job_id: "7", state: "completed", kind: "verify" });
  await settle();
  expect(place.textContent).toContain("2 files are not as they were recorded!");
});
