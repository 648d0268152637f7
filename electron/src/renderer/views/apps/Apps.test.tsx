import { act } from "react";
import { expect, it } from "vitest";

import { settle, shown } from "../../testing/shown";
import Apps from "./Apps";

const release = (tag_name: string) => ({ tag_name, prerelease: false, published_at: null, total_size: null });
const progress = (tag: string, ended: object) => ({
  tag,
  stage: "download",
  overall_progress: 10,
  current_item: null,
  download_speed: null,
  dependency_count: null,
  eta_seconds: null,
  error: null,
  completed_at: null,
  success: null,
  ...ended,
});

async function installing() {
  let now: object | null = null;
  let installed: string[] = [];
  const app = { app_id: "comfyui", name: "ComfyUI", description: "", homepage: "", active: null, takes_models: false };
  const view = await shown(<Apps item="comfyui" />, (method) => {
    if (method === "list_apps") return { success: true, apps: [{ ...app, installed }] };
    if (method === "get_installation_progress") return now;
    if (method === "list_processes") return { success: true, processes: [] };
    if (method === "list_removed_versions") return { success: true, versions: [] };
    if (method === "get_available_versions") return { success: true, versions: [release("v2"), release("v1")] };
    return { success: true, job_id: "1", status: { versions: {}, defaultVersion: null } };
  });
  const button = view.place.querySelector<HTMLElement>('[aria-label="Install v2"]') ?? expect.fail("no button");
  act(() => button.focus());
  await act(async () => {
    button.click();
    await Promise.resolve();
  });
  const become = async (next: object, tags: string[] = []) => {
    now = next;
    installed = tags;
    view.tell("install.progress", { app_id: "comfyui", ...next });
    view.tell("job.state", { kind: "install", state: "completed" });
    await settle();
  };
  return { ...view, become };
}

const focused = () => document.activeElement?.ariaLabel;

it("leads from a version's button to where its installation is shown, and stays there when it has ended", async () => {
  const { become } = await installing();
  await become(progress("v2", {}));
  expect(focused()).toBe("Installing v2");
  await become(progress("v2", { completed_at: "2026-10-01T10:00:00Z", success: true }), ["v2"]);
  await expect.poll(() => settle().then(focused)).toBe("Installation");
  expect(document.activeElement?.textContent).toBe("v2 is installed.");
});

it("leaves alone who went on meanwhile", async () => {
  const { place, become } = await installing();
  const tab = place.querySelector<HTMLElement>("[role=tab]") ?? expect.fail("no tab");
  act(() => tab.focus());
  await become(progress("v2", {}));
  expect(place.textContent).toContain("Installing v2");
  expect(document.activeElement).toBe(tab);
});
