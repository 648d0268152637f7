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
}

/** The chosen backend is not on this machine. The message says how to get it; another one is never taken instead. */
export class BackendMissing extends Error {
  override readonly name = "BackendMissing";
}

const WINDOWS = process.platform === "win32";
const RUST_PROGRAM = WINDOWS ? "pumas-rpc.exe" : "pumas-rpc";

export function chooseBackend(places: Places, variables: NodeJS.ProcessEnv): Backend {
  return variables.PUMAS_RUST_BACKEND === "1" ? rust(places, variables) : python(places, variables);
}

function rust({ code, root }: Places, { PUMAS_RUST_BINARY: named }: NodeJS.ProcessEnv): Backend {
  const usual = [join(code, "rust", "target", "release", RUST_PROGRAM), join(code, "bin", RUST_PROGRAM)];
  const candidates = named === undefined ? usual : [named];
  const command = candidates.find(existsSync);
  if (command === undefined) {
    throw new BackendMissing(
      `PUMAS_RUST_BACKEND=1 asks for the Rust backend, which is not built (${candidates.join(", ")}). Build it with ` +
        '"./launcher build-rust", or unset the variable to use the Python backend.',
    );
  }
  return { name: "rust", command, args: ["--port", "0", "--launcher-root", root], cwd: code, env: {} };
}

function python({ code, root }: Places, variables: NodeJS.ProcessEnv): Backend {
  const script = join(code, "backend", "rpc_server.py");
  const own = WINDOWS ? join(code, ".venv", "Scripts", "python.exe") : join(code, ".venv", "bin", "python");
  const command = variables.PUMAS_PYTHON ?? own;
  if (!existsSync(script) || !existsSync(command)) {
    throw new BackendMissing(
      `The Python backend is not installed in ${code}. Run "./launcher setup" there, or name an interpreter that has ` +
        "the package in PUMAS_PYTHON.",
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
