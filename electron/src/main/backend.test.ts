import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { describe, expect, test } from "vitest";

import { BackendMissing, chooseBackend } from "./backend";
import { folder } from "./testing/support";

function checkout(...files: string[]): { code: string; root: string } {
  const code = folder();
  for (const file of files) {
    mkdirSync(dirname(join(code, file)), { recursive: true });
    writeFileSync(join(code, file), "");
    chmodSync(join(code, file), 0o755);
  }
  return { code, root: "/the/root" };
}

const PYTHON = ["backend/rpc_server.py", ".venv/bin/python"];
const RUST = "rust/target/release/pumas-rpc";
const PACKAGED = ["backend/rpc_server.py", "bin/pumas-rpc"];

describe("which backend is started", () => {
  test("Python by default, out of the checkout's own environment", () => {
    const places = checkout(...PYTHON, RUST);
    const backend = chooseBackend(places, {});
    expect(backend.name).toBe("python");
    expect(backend.command).toBe(join(places.code, ".venv/bin/python"));
    expect(backend.args).toEqual([
      join(places.code, "backend/rpc_server.py"),
      "--port",
      "0",
      "--launcher-root",
      "/the/root",
    ]);
  });

  test("Rust when it is asked for, by exactly 1", () => {
    const places = checkout(...PYTHON, RUST);
    expect(chooseBackend(places, { PUMAS_RUST_BACKEND: "1" })).toMatchObject({
      name: "rust",
      command: join(places.code, RUST),
      args: ["--port", "0", "--launcher-root", "/the/root"],
    });
    for (const other of ["0", "", "true", "2"]) {
      expect(chooseBackend(places, { PUMAS_RUST_BACKEND: other }).name).toBe("python");
    }
  });

  test("Rust that is not built is an error that says how to build, never Python in silence", () => {
    const choose = () => chooseBackend(checkout(...PYTHON), { PUMAS_RUST_BACKEND: "1" });
    expect(choose).toThrow(BackendMissing);
    expect(choose).toThrow(/launcher build-rust/);
  });

  test("a Rust program that is named is taken, and no other", () => {
    const places = checkout(RUST, "elsewhere/pumas-rpc");
    const named = join(places.code, "elsewhere/pumas-rpc");
    const variables = { PUMAS_RUST_BACKEND: "1", PUMAS_RUST_BINARY: named };
    expect(chooseBackend(places, variables).command).toBe(named);
    expect(() => chooseBackend(places, { ...variables, PUMAS_RUST_BINARY: `${named}.not` })).toThrow(BackendMissing);
  });

  test("Python that is not installed is an error that says how to install", () => {
    for (const left of [[], [PYTHON[0]], [PYTHON[1]]] as string[][]) {
      expect(() => chooseBackend(checkout(...left), {})).toThrow(/\.\/launcher setup/);
    }
  });

  test("a package starts the Rust program that it brings", () => {
    const places = { ...checkout(...PACKAGED), packaged: true };
    for (const wanted of [undefined, "", "1"]) {
      const backend = chooseBackend(places, { PUMAS_RUST_BACKEND: wanted });
      expect(backend).toMatchObject({ name: "rust", command: join(places.code, "bin/pumas-rpc") });
    }
    const broken = { ...checkout("backend/rpc_server.py"), packaged: true };
    expect(() => chooseBackend(broken, {})).toThrow(/bin\/pumas-rpc\)\. Install Pumas again/);
  });

  test("a package starts Python for who asks for it and has its packages", () => {
    const places = { ...checkout(...PACKAGED, "venv/bin/python"), packaged: true };
    const named = join(places.code, "venv/bin/python");
    const asked = { PUMAS_RUST_BACKEND: "0" };
    expect(chooseBackend(places, { ...asked, PUMAS_PYTHON: named })).toMatchObject({ name: "python", command: named });
    expect(() => chooseBackend(places, asked)).toThrow(/PUMAS_PYTHON/);
  });

  test("an interpreter that is named is used", () => {
    const places = checkout("backend/rpc_server.py", "other/python3");
    const named = join(places.code, "other/python3");
    expect(chooseBackend(places, { PUMAS_PYTHON: named }).command).toBe(named);
    expect(() => chooseBackend(places, { PUMAS_PYTHON: `${named}.not` })).toThrow(BackendMissing);
  });
});
