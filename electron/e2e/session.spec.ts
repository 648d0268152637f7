// How a page gets its token, and what is left of that: nothing in the address, the history, or another tab's reach.
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "./fixtures";

test("the code leaves the address and the history at once, and is good once", async ({ page, stage, context }) => {
  const address = await stage.address();
  await page.goto(address);
  await expect(page.getByRole("main")).toBeVisible();
  expect(page.url()).not.toContain("code");
  expect(page.url()).not.toContain(stage.token);
  const entries = await page.evaluate(() => history.length);
  expect(entries).toBeLessThanOrEqual(2);
  await page.reload();
  await expect(page.getByRole("main")).toBeVisible();

  const stranger = await context.browser()?.newContext();
  const other = await stranger?.newPage();
  await other?.goto(address);
  await expect(other?.getByText("pumas open") ?? page.getByText("never")).toBeVisible();
  await stranger?.close();
});

test("a second tab is let in by the first", async ({ open, context, stage }) => {
  await open();
  const second = await context.newPage();
  await second.goto(stage.url);
  await expect(second.getByRole("main")).toBeVisible();
  await expect(second.getByText("pumas open")).toHaveCount(0);
});

test("a stranger without a code is told how to get in, and sees nothing", async ({ page, stage, complaints }) => {
  await page.goto(stage.url);
  await expect(page.getByText("pumas open")).toBeVisible();
  const shown = await page.locator("body").innerText();
  expect(shown).not.toContain("Llama");
  complaints.splice(0, complaints.length, ...complaints.filter((text) => !text.includes("401")));
});

test("the file that pumas serve --open gives to the browser leads to the page", async ({ page, stage }) => {
  const file = join(stage.facts.folder, "open.html");
  // As backend/pumas/cli/page.py writes it.
  writeFileSync(file, `<!doctype html><meta http-equiv="refresh" content="0; url=${await stage.address()}">`);
  await page.goto(`file://${file}`);
  await page.waitForURL(`${stage.url}/**`);
  await expect(page.getByRole("navigation").first()).toBeVisible();
  await expect(page.getByText("pumas open")).toHaveCount(0);
});

test("the page comes under its policy, and runs nothing that was not built with it", async ({
  open,
  stage,
  complaints,
}) => {
  const page = await open();
  const reply = await page.request.get(stage.url);
  expect(reply.headers()["content-security-policy"]).toContain("default-src 'none'");
  const outcomes = await page.evaluate(async () => {
    const tries: Record<string, () => unknown> = {
      "a script of its own making": () => {
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.body.append(script);
      },
      "an event handler in a tag": () => {
        document.body.insertAdjacentHTML("beforeend", '<img src="data:," onerror="window.ran = true">');
      },
      // Later, since the debugger may evaluate texts while it is at it.
      "a text": () =>
        new Promise((resolve, reject) => {
          const evaluate = () => {
            try {
              // eslint-disable-next-line @typescript-eslint/no-implied-eval, @typescript-eslint/no-unsafe-call -- the try
              resolve(Function("window.ran = true")());
            } catch {
              reject(new Error("refused"));
            }
          };
          setTimeout(evaluate, 50);
        }),
      "another host": () => fetch("http://127.0.0.1:9/"),
    };
    const refused: string[] = [];
    for (const [name, attempt] of Object.entries(tries)) {
      try {
        await attempt();
      } catch {
        refused.push(name);
      }
    }
    return { refused, ran: "ran" in window };
  });
  expect(outcomes.ran).toBe(false);
  expect(outcomes.refused).toEqual([
    "a script of its own making",
    "an event handler in a tag",
    "a text",
    "another host",
  ]);
  expect(complaints.splice(0).length).toBeGreaterThanOrEqual(3); // the browser told of each
});
