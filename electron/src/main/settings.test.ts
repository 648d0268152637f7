import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

import { Settings, choices } from "./settings";
import { folder } from "./testing/support";
import { visiblePlace } from "./window";

const DEFAULTS = { openAtLogin: false, keepInTray: true, notifications: true };

test("choices and the window's place outlive the shell", async () => {
  const file = join(folder(), "new", "shell.json");
  const settings = new Settings(file);
  expect(settings.shared).toEqual(DEFAULTS);
  expect(settings.place).toBeNull();
  const place = { x: -5, y: 7, width: 800, height: 600 };
  await Promise.all([settings.change({ notifications: false }), settings.change({ place })]);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const next = new Settings(file);
  expect(next.shared).toEqual({ ...DEFAULTS, notifications: false });
  expect(next.place).toEqual(place);
});

test.each(["", "{", "null", "[]", "7", '{"keepInTray":"no","place":{"x":"a"}}', '{"place":{"x":1,"y":2,"width":3}}'])(
  "a file with %s means the defaults",
  (text) => {
    const file = join(folder(), "shell.json");
    writeFileSync(file, text);
    const settings = new Settings(file);
    expect(settings.shared).toEqual(DEFAULTS);
    expect(settings.place).toBeNull();
  },
);

test("a failed write does not stop the next one", async () => {
  const at = folder();
  const file = join(at, "shell.json");
  const settings = new Settings(file);
  mkdirSync(`${file}.new`);
  await expect(settings.change({ notifications: false })).rejects.toThrow();
  const { rmdirSync } = await import("node:fs");
  rmdirSync(`${file}.new`);
  await settings.change({ keepInTray: false });
  expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({ notifications: false, keepInTray: false });
});

test("a message from the page changes choices and nothing else", () => {
  expect(choices({ openAtLogin: true, place: { x: 1 }, keepInTray: 1, other: true })).toEqual({ openAtLogin: true });
  for (const nothing of [null, undefined, "x", 7, []]) expect(choices(nothing)).toEqual({});
});

test("the window comes back where it can be seen", () => {
  const screen = {
    getAllDisplays: () => [{ workArea: { x: 0, y: 30, width: 1920, height: 1050 } }],
  } as unknown as Parameters<typeof visiblePlace>[1];
  const at = (x: number, y: number) => visiblePlace({ x, y, width: 900, height: 700 }, screen);
  expect(at(100, 100)).not.toBeNull();
  expect(at(-800, 100)).not.toBeNull();
  expect(at(-850, 100)).toBeNull(); // too little of it
  expect(at(1920, 100)).toBeNull(); // on a screen that was unplugged
  expect(at(100, 1000)).toBeNull();
  expect(visiblePlace(null, screen)).toBeNull();
});
