// What the page says when there is nothing to show, or when something is wrong: in both languages, dark and light.
// With PUMAS_PICTURES each state is also drawn, to be looked at.
import { join } from "node:path";

import type { Page } from "@playwright/test";

import { de } from "../src/renderer/texts/de";
import { en } from "../src/renderer/texts/en";
import type { TextKey } from "../src/renderer/texts/texts";
import { expect, onOwnStage } from "./fixtures";
import type { Stage } from "./stage";

const test = onOwnStage({ empty: true });

interface Look {
  language: "en" | "de";
  theme: "dark" | "light";
}

const LOOKS: readonly Look[] = [
  { language: "en", theme: "dark" },
  { language: "de", theme: "light" },
];
const TABLES = { en, de };

/** A page in one look, and what is needed to see a state in it. */
class Shown {
  constructor(
    readonly page: Page,
    private readonly stage: Stage,
    private readonly look: Look,
  ) {}

  text(key: TextKey): string {
    const text = TABLES[this.look.language][key];
    return typeof text === "string" ? text : text.other;
  }

  async go(route: string): Promise<void> {
    await this.page.goto(`${this.stage.url}/#/${route}`);
  }

  async click(role: "button" | "tab", key: TextKey): Promise<void> {
    await this.page
      .getByRole(role, { name: this.text(key), exact: true })
      .first()
      .click();
  }

  async says(...keys: TextKey[]): Promise<void> {
    for (const key of keys) await expect(this.page.getByText(this.text(key)).first(), key).toBeVisible();
  }

  async offers(...keys: TextKey[]): Promise<void> {
    for (const key of keys)
      await expect(this.page.getByRole("button", { name: this.text(key) }).first(), key).toBeEnabled();
  }

  async picture(name: string): Promise<void> {
    if (process.env.PUMAS_PICTURES === undefined) return;
    const { language, theme } = this.look;
    await this.page.screenshot({
      path: join(process.env.PUMAS_PICTURES, "states", `${name}-${language}-${theme}.png`),
    });
  }
}

/** The code of the other views comes after the first one is shown, one after the other. */
async function lastViewIsHere(page: Page): Promise<void> {
  const fetched = () => performance.getEntriesByType("resource").map(({ name }) => name);
  await expect.poll(async () => (await page.evaluate(fetched)).join()).toMatch(/\/assets\/Settings-/);
}

for (const look of LOOKS) {
  const opened = async (page: Page, stage: Stage): Promise<Shown> => {
    await page.addInitScript((chosen) => localStorage.setItem("pumas-page", JSON.stringify(chosen)), look);
    await page.goto(await stage.address());
    await expect(page.getByRole("main")).toBeVisible();
    return new Shown(page, stage, look);
  };

  test.describe(`${look.language}, ${look.theme}`, () => {
    test("a place with nothing in it says what can be done", async ({ page, stage }) => {
      const shown = await opened(page, stage);
      await expect(page.locator("html")).toHaveAttribute("lang", look.language);
      await shown.says("library.empty", "library.empty.hint");
      await shown.offers("library.import", "library.empty.discover", "library.empty.stores");
      await shown.picture("library");

      await page.getByRole("searchbox").fill("nothing has this");
      await shown.says("library.no_hits");
      await shown.offers("library.filters.clear");
      await shown.picture("library-no-hits");

      await shown.click("button", "library.trash");
      await shown.says("trash.empty", "trash.empty.hint");
      await shown.picture("trash");
      await page.keyboard.press("Escape");
      await shown.click("button", "library.import");
      await shown.says("import.nothing", "import.hint");
      await shown.picture("import");
      await page.keyboard.press("Escape");

      await shown.go("discover");
      await shown.says("discover.none", "discover.popular");
      await page.getByRole("searchbox").fill("nobody has uploaded this");
      await shown.says("discover.empty", "discover.empty.hint");
      await shown.picture("discover-empty");

      await shown.go("downloads");
      await shown.says("downloads.empty", "downloads.empty.hint");
      await shown.offers("library.empty.discover");
      await shown.picture("downloads");

      await shown.go("apps");
      await shown.says("apps.none");
      await shown.picture("apps");
      await shown.click("tab", "apps.tab.log");
      await shown.says("apps.log.empty");
      await shown.click("tab", "apps.tab.links");
      await shown.says("apps.links.none");
      await shown.picture("apps-models");

      await shown.go("monitor");
      await shown.says("monitor.apps.none", "monitor.jobs.none");
      await shown.picture("monitor");

      await shown.go("library/llm/nobody/nothing");
      await expect(page.getByRole("complementary").getByRole("alert")).toBeVisible();
      await shown.picture("model-gone");
    });

    test("offline mode is said everywhere, and what it keeps from working", async ({ page, stage }) => {
      await stage.call("set_network_settings", { offline: true });
      try {
        const shown = await opened(page, stage);
        await shown.says("health.offline");
        await shown.offers("health.go_settings");
        await shown.go("discover");
        await page.getByRole("searchbox").fill(`never asked before in ${look.language}`);
        await shown.says("error.network_offline");
        await shown.picture("offline-mode");
      } finally {
        await stage.call("set_network_settings", { offline: false });
      }
    });

    test("a view whose code is gone takes nothing else along", async ({ page, stage, complaints }) => {
      await page.route(/\/assets\/Stores-/, (route) => route.abort());
      const shown = await opened(page, stage);
      await shown.go("stores");
      await shown.says("common.broken");
      await shown.offers("common.reload");
      await shown.picture("view-broken");
      await shown.go("monitor");
      await expect(page.getByRole("heading", { name: shown.text("monitor.title") })).toBeVisible();
      expect(complaints.splice(0).length).toBeGreaterThan(0); // the browser told of what did not come
    });

    test("who has no right to be here is told how to get it", async ({ page, stage, complaints }) => {
      await page.addInitScript((chosen) => localStorage.setItem("pumas-page", JSON.stringify(chosen)), look);
      await page.goto(stage.url);
      const shown = new Shown(page, stage, look);
      await shown.says("health.unauthorized", "health.unauthorized.hint");
      await shown.picture("locked-out");
      complaints.splice(0);
    });

    test("a sidecar that is gone is said in every view, and forgotten when it is back", async ({ page, stage }) => {
      const shown = await opened(page, stage);
      await shown.says("library.empty");
      await lastViewIsHere(page);
      const { port } = stage;
      await stage.kill();
      await shown.says("health.unreachable", "health.unreachable.hint");
      for (const view of ["library", "downloads", "apps", "settings"]) {
        await shown.go(view);
        await expect(page.getByRole("heading", { level: 1 })).toBeAttached();
        await expect(page.getByRole("alert")).toHaveCount(1); // once for all, by the banner
        await shown.picture(`sidecar-gone-${view}`);
      }
      await stage.start(port);
      await expect(page.getByRole("alert")).toHaveCount(0);
      await shown.go("library");
      await shown.says("library.empty");
    });

    test("a hub that does not work is not an empty hub", async ({ page, stage }) => {
      await stage.fault({ actions: [{ action: "Status", code: 401 }], kind: "models", path: "*", times: null });
      const shown = await opened(page, stage);
      await shown.go("discover");
      await page.getByRole("searchbox").fill(`unheard of in ${look.language}`);
      await expect(page.getByRole("alert")).toBeVisible();
      await expect(page.getByText(shown.text("discover.empty"))).toHaveCount(0);
      await shown.picture("hub-broken");
      await stage.resetHub();
    });
  });
}
