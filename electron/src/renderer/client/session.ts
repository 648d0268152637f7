// The token of a browser page. It comes once, for a code in the address that `pumas serve --open` made; it is kept for
// this tab only (`sessionStorage`), and given to further tabs of the same origin on request. In the desktop shell there
// is no token in the page at all.

const KEY = "pumas-token";
const CHANNEL = "pumas-session";
const ASK_TABS_MS = 400;

type TabMessage = { kind: "ask" } | { kind: "token"; token: string };

/** Take the code out of the address and the history before anything else looks at them. */
export function takeCode(): string | null {
  const match = /^#code=([\w.~-]+)$/.exec(location.hash);
  if (match === null) return null;
  history.replaceState(null, "", location.pathname);
  return match[1] ?? null;
}

export class Session {
  private current = sessionStorage.getItem(KEY);
  private readonly channel = new BroadcastChannel(CHANNEL);

  constructor() {
    this.channel.addEventListener("message", ({ data }: MessageEvent<TabMessage>) => {
      if (data.kind === "ask" && this.current !== null) this.send({ kind: "token", token: this.current });
    });
  }

  get token(): string | null {
    return this.current;
  }

  /** Exchange a code for the token. False when the code was used already or is too old. */
  async open(code: string): Promise<boolean> {
    const response = await fetch("session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ code }),
    });
    if (!response.ok) return false;
    const { token } = (await response.json()) as { token: string | null };
    this.keep(token);
    return true;
  }

  /** Ask the other tabs for the token; false when none of them has another one than this tab. */
  askTabs(): Promise<boolean> {
    return new Promise((resolve) => {
      const done = (found: boolean) => {
        clearTimeout(timer);
        this.channel.removeEventListener("message", hear);
        resolve(found);
      };
      const hear = ({ data }: MessageEvent<TabMessage>) => {
        if (data.kind !== "token" || data.token === this.current) return;
        this.keep(data.token);
        done(true);
      };
      const timer = setTimeout(() => done(false), ASK_TABS_MS);
      this.channel.addEventListener("message", hear);
      this.send({ kind: "ask" });
    });
  }

  private keep(token: string | null): void {
    this.current = token;
    if (token === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, token);
  }

  private send(message: TabMessage): void {
    this.channel.postMessage(message);
  }
}
