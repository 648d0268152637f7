// What another program sets while the settings are shown.
import { expect, test } from "./fixtures";

test("settings that were changed elsewhere are shown at once", async ({ open, stage }) => {
  const page = await open("#/settings");
  const offline = page.getByRole("switch", { name: "Offline mode" });
  const onExit = page.getByRole("combobox", { name: "When Pumas ends, running apps" });
  await expect(offline).not.toBeChecked();
  await expect(onExit).toHaveValue("stop");
  try {
    await stage.call("set_network_settings", { offline: true, proxy: "http://me:secret@proxy.example:1" });
    await expect(offline).toBeChecked();
    await expect(page.getByRole("textbox", { name: "Proxy" })).toHaveValue("http://me:***@proxy.example:1");
    await stage.call("set_process_settings", { on_exit: "keep" });
    await expect(onExit).toHaveValue("keep");
    await offline.click();
    await expect(offline).not.toBeChecked();
    await onExit.selectOption("stop");
    await expect(onExit).toHaveValue("stop");
  } finally {
    await stage.call("set_network_settings", { offline: false, proxy: "" });
    await stage.call("set_process_settings", { on_exit: "stop" });
  }
});
