import { expect, it } from "vitest";

import type { AppInfo } from "@contract";
import { settle, shown } from "../../testing/shown";
import { AvailableVersions } from "./AvailableVersions";

it("offers no version a second time while it is being installed, and again when that failed", async () => {
  const release = (tag_name: string) => ({ tag_name, prerelease: false, published_at: null, total_size: null });
  let progress = { tag: "v2", completed_at: null as string | null };
  const app = { app_id: "comfyui", installed: [] as string[], active: null } as unknown as AppInfo;
  const { place, tell } = await shown(<AvailableVersions app={app} onInstall={() => undefined} />, (method) =>
    method === "get_installation_progress" ? progress : { success: true, versions: [release("v2"), release("v1")] },
  );
  const closed = () =>
    [...place.querySelectorAll("li button")].flatMap((one) => (one.matches(":disabled") ? [one.ariaLabel] : []));
  expect(closed()).toEqual(["Install v2"]);
  progress = { tag: "v2", completed_at: "2026-10-01T10:00:00Z" };
  tell("job.state", { kind: "install", state: "failed" });
  await expect.poll(() => settle().then(closed), { interval: 0 }).toEqual([]);
});
