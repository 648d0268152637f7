// The page as the shell shows it: an origin of its own (`pumas://app`), files of the build, and the headers of
// contracts/page.json. Nothing is loaded from the network or from `file:`.
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import rules from "../../../contracts/page.json";

export const SCHEME = "pumas";
export const ORIGIN = `${SCHEME}://app`;
export const ADDRESS = `${ORIGIN}/`;

/** To be registered before the app is ready. */
export const PRIVILEGES = { standard: true, secure: true, supportFetchAPI: true, codeCache: true } as const;

// A name, or `assets/` and a name, as the build writes them; see backend/pumas/rpc/page.py.
const FILE = /^\/(?:assets\/)?[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*(\.[a-z0-9]+)$/;
const TYPES: Readonly<Record<string, string>> = rules.types;

/** Whether an address is the page's own; parsed and compared, never searched. */
export function isOwn(address: string): boolean {
  try {
    const { protocol, host, username, password } = new URL(address);
    return protocol === `${SCHEME}:` && host === "app" && username === "" && password === "";
  } catch {
    return false;
  }
}

/** Answers requests of the page's own scheme. */
export function servePage(folder: string): (request: Request) => Promise<Response> {
  return async (request) => {
    if (request.method !== "GET" || !isOwn(request.url)) return refused(403);
    const path = new URL(request.url).pathname;
    const name = path === "/" ? "/index.html" : path;
    const type = TYPES[FILE.exec(name)?.[1] ?? ""];
    if (type === undefined) return refused(404);
    try {
      const body = await readFile(join(folder, name));
      return new Response(new Uint8Array(body), { headers: { ...rules.headers, "Content-Type": type } });
    } catch {
      return refused(404);
    }
  };
}

function refused(status: number): Response {
  return new Response(null, { status, headers: rules.headers });
}
