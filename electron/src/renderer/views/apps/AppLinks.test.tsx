import { act } from "react";
import { expect, it } from "vitest";

import type { AppInfo } from "@contract";
import { settle, shown } from "../../testing/shown";
import { AppLinks } from "./AppLinks";

it("stays where it is while copying is allowed, and applies no plan that is about to be replaced", async () => {
  const action = (model_name: string) => ({ model_id: model_name, model_name, target_path: `/${model_name}` });
  const plan = (copies: boolean) => ({
    success: true,
    plan_id: String(copies),
    to_create: copies ? [action("a"), action("b")] : [action("a")],
    to_skip_exists: [action("c")],
    broken_to_remove: [],
    conflicts: [],
    needs_copy: [action("b")],
    copy_bytes: 1,
    warnings: [],
    errors: [],
  });
  let arrive: (answer: object) => void = () => undefined;
  const app = { app_id: "comfyui", installed: ["v1"], active: "v1" } as unknown as AppInfo;
  const { place } = await shown(<AppLinks app={app} />, (_, params) =>
    (params as { allow_copy: boolean }).allow_copy ? new Promise((resolve) => (arrive = resolve)) : plan(false),
  );
  expect(place.querySelector("details")?.textContent).toBe("1 link is in placec /c"); // which ones, for who asks
  const copy = place.querySelector<HTMLElement>("[role=switch]") ?? expect.fail("no switch");
  const applies = () => place.querySelector("button:not([role])")?.matches(":disabled") === false;
  expect(applies()).toBe(true);
  act(() => copy.focus());
  act(() => copy.click());
  await settle();
  expect(document.activeElement).toBe(copy);
  expect(applies()).toBe(false);
  arrive(plan(true));
  await settle();
  expect(document.activeElement).toBe(copy);
  expect(applies()).toBe(true);
  expect(place.textContent).toContain("2 links to make");
});
