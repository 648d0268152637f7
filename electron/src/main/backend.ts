// Which program is the sidecar, and how it is called. Starts nothing.
import { existsSync } from "node:fs";
import { join } from "node:path";

export interface Backend {
  readonly name: "python" | "rust";
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
}

/** Where the shell finds things: in a checkout all of them are below it, in a package they are its resources. */
export interface Places {
  /** Folder with `backend/` and `contracts/`. */
  readonly code: string;
  /** The launcher root: `launcher-data/` and the library. */
  readonly root: string;
  /** Installed as a package, which brings the Rust backend ready to run, and no Python packages. */
  readonly packaged?: boolean;
}

/** The chosen backend is not on this machine. The message says how to get it; another one is never taken instead. */
export class BackendMissing extends Error {
  override readonly name = "BackendMissing";
}

const WINDOWS = process.platform === "win32";
const RUST_PROGRAM = WINDOWS ? "pumas-rpc.exe" : "pumas-rpc";

export function chooseBackend(places: Places, variables: NodeJS.ProcessEnv): Backend {
  const wanted = variables.PUMAS_RUST_BACKEND;
  const takesRust = places.packaged ? wanted !== "0" : wanted === "1";
  return takesRust ? rust(places, variables) : python(places, variables);
}

function rust({ code, root, packaged }: Places, { PUMAS_RUST_BINARY: named }: NodeJS.ProcessEnv): Backend {
  const usual = packaged ? join(code, "bin", RUST_PROGRAM) : join(code, "rust", "target", "release", RUST_PROGRAM);
  const command = named ?? usual;
  if (!existsSync(command)) {
    throw new BackendMissing(
      packaged
        ? `The backend is missing in this package (${command}). Install Pumas again.`
        : `PUMAS_RUST_BACKEND=1 asks for the Rust backend, which is not built (${command}). Build it with ` +
            '"./launcher build-rust", or unset the variable to use the Python backend.',
    );
  }
  return { name: "rust", command, args: ["--port", "0", "--launcher-root", root], cwd: code, env: {} };
}

function python({ code, root, packaged }: Places, variables: NodeJS.ProcessEnv): Backend {
  const script = join(code, "backend", "rpc_server.py");
  const own = WINDOWS ? join(code, ".venv", "Scripts", "python.exe") : join(code, ".venv", "bin", "python");
  const command = variables.PUMAS_PYTHON ?? own;
  if (!existsSync(script) || !existsSync(command)) {
    throw new BackendMissing(
      packaged
        ? "PUMAS_RUST_BACKEND=0 asks for the Python backend, whose packages do not come with this one. Name an " +
            'interpreter that has them in PUMAS_PYTHON; "./launcher setup" in a checkout makes one, .venv/bin/python.'
        : `The Python backend is not installed in ${code}. Run "./launcher setup" there, or name an interpreter that ` +
            "has the package in PUMAS_PYTHON.",
    );
  }
  return {
    name: "python",
    command,
    args: [script, "--port", "0", "--launcher-root", root],
    cwd: join(code, "backend"),
    env: { PYTHONUNBUFFERED: "1" },
  };
}
