import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { Session, takeCode } from "./session";

beforeEach(() => sessionStorage.clear());
afterEach(() => {
  vi.unstubAllGlobals();
  history.replaceState(null, "", "/");
});

it.each([
  ["#code=abc-DEF_1.2~3", "abc-DEF_1.2~3", ""],
  ["#/library/llm/a", null, "#/library/llm/a"],
  ["#code=", null, "#code="],
  ["#code=a b", null, "#code=a%20b"],
  ["", null, ""],
])("takes the code of %j out of the address", (hash, code, left) => {
  history.replaceState(null, "", `/${hash}`);
  expect(takeCode()).toBe(code);
  expect(location.hash).toBe(left);
});

it("exchanges a code once and keeps the token for this tab", async () => {
  const fetch = vi.fn<(path: string, init: RequestInit) => Promise<Response>>(() =>
    Promise.resolve(Response.json({ token: "secret" })),
  );
  vi.stubGlobal("fetch", fetch);
  const session = new Session();
  expect(await session.open("abc")).toBe(true);
  expect(fetch.mock.calls[0]?.[0]).toBe("session");
  expect(fetch.mock.calls[0]?.[1]).toMatchObject({ method: "POST", body: '{"code":"abc"}' });
  expect(new Session().token, "after a reload").toBe("secret");
});

it("says that a code was refused", async () => {
  vi.stubGlobal("fetch", () => Promise.resolve(new Response("", { status: 403 })));
  const session = new Session();
  expect(await session.open("old")).toBe(false);
  expect(session.token).toBeNull();
});

it("gives the token to another tab that asks, and only then", async () => {
  const empty = new Session();
  sessionStorage.setItem("pumas-token", "secret");
  const holder = new Session();
  sessionStorage.clear();
  expect(empty.token).toBeNull();
  expect(await empty.askTabs()).toBe(true);
  expect(empty.token).toBe("secret");
  expect(await holder.askTabs(), "nobody has another one").toBe(false);
});
