// The sidecar's keeper against backends that go wrong in every way, and against the real one. After each test every
// process that was started is gone.
import { describe, expect, onTestFinished, test } from "vitest";

import type { SidecarState } from "../preload/bridge";
import { BackendMissing, chooseBackend } from "./backend";
import { type Limits, LIMITS, Sidecar } from "./sidecar";
import { Misbehaving, QUICK, REAL_VARIABLES, eventually, lives, realPlaces } from "./testing/support";

interface Watched {
  sidecar: Sidecar;
  states: SidecarState[];
  phases: () => string[];
  last: () => SidecarState | undefined;
}

function watch(sidecar: Sidecar): Watched {
  const states: SidecarState[] = [];
  sidecar.on("state", (state) => states.push(state));
  onTestFinished(() => sidecar.stop());
  sidecar.start();
  return { sidecar, states, phases: () => states.map(({ phase }) => phase), last: () => states.at(-1) };
}

function misbehave(how: string, limits: Partial<Limits> = {}): Watched & { backend: Misbehaving } {
  const backend = new Misbehaving(how);
  return { ...watch(new Sidecar(backend.choose, process.env, { ...QUICK, ...limits })), backend };
}

const failed = ({ last }: Watched) => eventually(() => last()?.phase === "failed", "its failure");
const running = ({ last }: Watched) => eventually(() => last()?.phase === "running", "its start");

describe("a backend that does not start", () => {
  test("exits at once: tried a bounded number of times, then told why, with what it said last", async () => {
    const it = misbehave("exits-at-once");
    await failed(it);
    expect(it.phases()).toEqual(["starting", "restarting", "starting", "restarting", "starting", "failed"]);
    expect(it.last()).toEqual({
      phase: "failed",
      reason: "The sidecar ended with status 4: the disk is on fire",
      log: ["first line", "the disk is on fire"],
    });
    const waits = it.states.flatMap((state) => (state.phase === "restarting" ? [state.delayMs] : []));
    expect(waits).toEqual(QUICK.restartAfterMs);
    expect(it.backend.pids).toHaveLength(3);
    expect(it.backend.alive).toEqual([]);
  });

  test("tells no port: given up in time, and killed", async () => {
    // Long enough for it to start thinking.
    const it = misbehave("no-port", { restartAfterMs: [], startMs: 5000 });
    await failed(it);
    expect(it.last()).toMatchObject({ reason: "The sidecar told no port within 5 s.", log: ["still thinking"] });
    expect(it.backend.pids).toHaveLength(1);
    expect(it.backend.alive).toEqual([]);
  });

  test.each(["bad-port", "closes-stdout"])("%s is no port", async (how) => {
    const it = misbehave(how, { restartAfterMs: [], startMs: 600 });
    await failed(it);
    expect(it.last()).toMatchObject({ reason: "The sidecar told no port within 0.6 s." });
    expect(it.backend.alive).toEqual([]);
  });

  test("whose root belongs to another sidecar is not tried again", async () => {
    const it = misbehave("owned-root");
    await failed(it);
    expect(it.phases()).toEqual(["starting", "failed"]);
    expect(it.last()).toMatchObject({ reason: expect.stringContaining("owns this launcher root") as string });
  });

  test("that is not there is told at once", async () => {
    const it = watch(
      new Sidecar(() => {
        throw new BackendMissing("build it");
      }),
    );
    await failed(it);
    expect(it.phases()).toEqual(["starting", "failed"]);
    expect(it.last()).toMatchObject({ reason: "build it" });
  });

  test("that cannot be executed is told in words", async () => {
    const backend = { ...new Misbehaving("no-port").choose(), command: "/nowhere/python" };
    const it = watch(new Sidecar(() => backend, process.env, { ...QUICK, restartAfterMs: [] }));
    await failed(it);
    expect(it.last()).toMatchObject({ reason: expect.stringMatching(/could not be started.*ENOENT/) as string });
  });

  test("never gets its token into a message", async () => {
    const it = misbehave("tells-secrets", { restartAfterMs: [] });
    await failed(it);
    expect(JSON.stringify(it.states)).toContain("my token is ***");
    expect(JSON.stringify(it.states)).not.toMatch(/[A-Za-z0-9_-]{43}/);
  });

  test("can be started by hand after it was given up", async () => {
    const it = misbehave("exits-at-once", { restartAfterMs: [] });
    await failed(it);
    it.sidecar.start();
    await eventually(() => it.backend.pids.length === 2, "the second try");
    await failed(it);
  });
});

describe("a backend that goes wrong later", () => {
  test("dies: started again, with another token", async () => {
    const it = misbehave("dies-later", { restartAfterMs: [10] });
    const ports = new Set<number>();
    it.sidecar.on("connected", ({ port }) => ports.add(port));
    await failed(it);
    expect(it.phases()).toEqual(["starting", "running", "restarting", "starting", "running", "failed"]);
    expect(it.last()).toMatchObject({ reason: "The sidecar ended by SIGKILL: out of memory" });
    expect(ports.size).toBe(2);
    expect(it.sidecar.connection).toBeNull();
    expect(it.backend.alive).toEqual([]);
  });

  test("after it ran for long, its tries are counted anew", async () => {
    const it = misbehave("dies-later", { restartAfterMs: [10], calmMs: 100 });
    await eventually(() => it.backend.pids.length >= 4, "the fourth start");
    expect(it.phases()).not.toContain("failed");
    await it.sidecar.stop();
    expect(it.last()).toEqual({ phase: "stopped" });
    expect(it.backend.alive).toEqual([]);
  });

  test("hangs: found out, killed, started again", async () => {
    const it = misbehave("hangs", { restartAfterMs: [10], healthMs: 100 });
    await running(it);
    const [first] = it.backend.pids;
    expect(await it.sidecar.connection?.healthy(60_000)).toBe(true);
    await it.sidecar.suspect();
    await eventually(() => it.backend.pids.length === 2, "the second start");
    expect(lives(first ?? 0)).toBe(false);
  });

  test("is left alone when it answers after all", async () => {
    const it = misbehave("ends-by-term");
    await running(it);
    await it.sidecar.suspect();
    expect(it.backend.alive).toEqual(it.backend.pids);
    expect(it.phases()).toEqual(["starting", "running"]);
  });
});

describe("the end", () => {
  const FOR_EVER = 600_000; // a step that is not needed would keep the test waiting until it fails
  test.each([
    ["ends-when-asked", 0, { askedMs: FOR_EVER }],
    ["ends-by-term", 300, { termMs: FOR_EVER }],
    ["ignores-term", 600, {}],
    ["hangs", 600, {}],
  ])("of one that %s is real, and takes no more steps than needed", async (how, atLeast, limits) => {
    const it = misbehave(how, limits);
    await running(it);
    const begun = performance.now();
    await it.sidecar.stop();
    expect(it.backend.alive).toEqual([]);
    expect(performance.now() - begun).toBeGreaterThanOrEqual(atLeast - 5); // timers round down
    expect(it.last()).toEqual({ phase: "stopped" });
    expect(it.sidecar.connection).toBeNull();
  });

  test("while it starts, between two starts, twice, and before any start", async () => {
    const starting = misbehave("no-port", { startMs: 60_000 });
    await eventually(() => starting.backend.alive.length === 1, "the process");
    await Promise.all([starting.sidecar.stop(), starting.sidecar.stop()]);
    expect(starting.backend.alive).toEqual([]);
    expect(starting.last()).toEqual({ phase: "stopped" });

    const waiting = misbehave("exits-at-once", { restartAfterMs: [60_000] });
    await eventually(() => waiting.last()?.phase === "restarting", "the wait");
    await waiting.sidecar.stop();
    expect(waiting.last()).toEqual({ phase: "stopped" });

    const never = new Sidecar(new Misbehaving("no-port").choose, process.env, QUICK);
    await never.stop();
    expect(never.state).toEqual({ phase: "stopped" });
  });
});

describe("the real Python backend", () => {
  test("starts on a free port with a token, answers, and is gone after the end", async () => {
    const places = realPlaces();
    const it = watch(new Sidecar(() => chooseBackend(places, REAL_VARIABLES), REAL_VARIABLES, LIMITS));
    await eventually(() => it.last()?.phase === "running", "the backend");
    const pid = it.sidecar.pid ?? 0;
    const link = it.sidecar.connection;
    expect(await link?.call("health_check")).toEqual({ status: "ok" });
    await expect(link?.call("no_such_method")).rejects.toMatchObject({ failure: { code: -32601 } });
    const other = await fetch(`http://127.0.0.1:${link?.port ?? 0}/health`);
    expect(other.status).toBe(401);
    await it.sidecar.stop();
    expect(lives(pid)).toBe(false);
  });

  test("is started again after kill -9", async () => {
    const places = realPlaces();
    const limits = { ...LIMITS, restartAfterMs: [10] };
    const it = watch(new Sidecar(() => chooseBackend(places, REAL_VARIABLES), REAL_VARIABLES, limits));
    await eventually(() => it.last()?.phase === "running", "the backend");
    const first = it.sidecar.pid ?? 0;
    process.kill(first, "SIGKILL");
    await eventually(() => it.sidecar.pid !== first && it.last()?.phase === "running", "its next life");
    expect(await it.sidecar.connection?.call("health_check")).toEqual({ status: "ok" });
    await it.sidecar.stop();
    expect(lives(first)).toBe(false);
  });
});
