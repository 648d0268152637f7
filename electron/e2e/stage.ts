// A prepared world (tests/page/stage.py) and a sidecar in it, started as the desktop shell starts it.
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { chooseBackend } from "../src/main/backend";
import { Child } from "../src/main/child";
import { Connection } from "../src/main/connection";

export const CHECKOUT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

interface Facts {
  folder: string;
  root: string;
  home: string;
  hub: string;
  files: Record<string, string>;
  environment: Record<string, string>;
  models: number;
  largeRepo: string;
}

/** One answer of the hub to a request that matches; see tests/fixtures/hub/faults.py. */
export interface Fault {
  actions: ({ action: string } & Record<string, unknown>)[];
  kind?: string;
  path?: string;
  /** null: always. */
  times?: number | null;
}

export class Stage {
  private child: Child | null = null;
  private link: Connection | null = null;

  private constructor(
    private readonly process: ChildProcess,
    readonly facts: Facts,
  ) {}

  /** With so many small models beside those that are shown; `empty` leaves the latter out. */
  static async set({ models = 0, empty = false } = {}): Promise<Stage> {
    const python = pythonOf(CHECKOUT);
    const script = join(CHECKOUT, "tests", "page", "stage.py");
    const words = [script, "--models", String(models), ...(empty ? ["--empty"] : [])];
    const process_ = spawn(python, words, { stdio: ["pipe", "pipe", "inherit"] });
    const lines = createInterface({ input: process_.stdout });
    const line = await new Promise<string>((resolve, reject) => {
      lines.once("line", resolve);
      process_.once("exit", (code) => reject(new Error(`the stage ended with status ${code}`)));
    });
    return new Stage(process_, JSON.parse(line) as Facts);
  }

  /** Start the sidecar; on a port of its own choice, or on the one that it had before. */
  async start(port?: number): Promise<void> {
    const variables = { ...process.env, ...this.facts.environment };
    const chosen = chooseBackend(
      { code: CHECKOUT, root: this.facts.root },
      { ...variables, PUMAS_PYTHON: pythonOf(CHECKOUT) },
    );
    const args = port === undefined ? chosen.args : chosen.args.map((word) => (word === "0" ? String(port) : word));
    const token = this.child?.token ?? randomBytes(32).toString("base64url");
    this.child = new Child({ ...chosen, args }, token, variables);
    this.link = new Connection(await this.child.port(120_000), token);
    await this.call("health_check");
  }

  get port(): number {
    return this.connection.port;
  }

  get token(): string {
    if (this.child === null) throw new Error("no sidecar was started");
    return this.child.token;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get connection(): Connection {
    if (this.link === null) throw new Error("no sidecar was started");
    return this.link;
  }

  async call<T = Record<string, unknown>>(method: string, params: object = {}): Promise<T> {
    return (await this.connection.call(method, params)) as T;
  }

  /** The page's address with a code that is good once, as `pumas open --url` prints it. */
  async address(): Promise<string> {
    const reply = await fetch(`${this.url}/session/code`, {
      method: "POST",
      headers: { Authorization: `Bearer ${this.token}`, "Content-Type": "application/json" },
      body: "{}",
    });
    const { code } = (await reply.json()) as { code: string };
    return `${this.url}/#code=${code}`;
  }

  /** End it as nothing good does, and wait until it is gone. */
  async kill(): Promise<void> {
    await this.child?.kill();
  }

  async fault(fault: Fault): Promise<void> {
    await fetch(`${this.facts.hub}/_test/rules`, { method: "POST", body: JSON.stringify(fault) });
  }

  /** The hub works again, and has forgotten what it was asked. */
  async resetHub(): Promise<void> {
    await fetch(`${this.facts.hub}/_test/reset`, { method: "POST", body: "{}" });
  }

  async hubRequests(): Promise<{ kind: string; path: string }[]> {
    return (await (await fetch(`${this.facts.hub}/_test/requests`)).json()) as { kind: string; path: string }[];
  }

  async strike(): Promise<void> {
    this.link?.close();
    await this.child?.stop(() => this.call("shutdown"), { askedMs: 30_000, termMs: 10_000 });
    const gone = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.stdin?.end();
    await gone;
  }
}

function pythonOf(checkout: string): string {
  const own = join(checkout, ".venv", "bin", "python");
  if (!existsSync(own)) throw new Error("there is no .venv; run ./launcher setup");
  return own;
}
