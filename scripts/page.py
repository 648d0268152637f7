"""Build the page and the desktop shell when their sources changed since the last time. Only Python's own library.

`--check` builds nothing and fails when the build is missing or old.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHELL = ROOT / "electron"
BUILT = SHELL / "dist" / "built"
INSTALLED = SHELL / "node_modules" / ".installed"
ELECTRON = SHELL / "node_modules" / "electron" / "dist" / ("electron.exe" if os.name == "nt" else "electron")
MIN_NODE = (20, 19)
NO_NODE = "Node.js 20.19 or newer, with npm, is needed to build the page (https://nodejs.org)"


def missing() -> str | None:
    """What this machine lacks to build, in a sentence; None when it can."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return NO_NODE
    said = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    found = re.match(r"v(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < MIN_NODE:
        return f"{NO_NODE}; this is {said.strip() or 'unknown'}"
    return None


def sources() -> list[Path]:
    """All that the build is made of."""
    tops = [p for p in SHELL.glob("*") if p.is_file() and p.suffix in (".json", ".ts", ".js", ".cjs", ".mjs")]
    deep = [p for p in (SHELL / "src").rglob("*") if p.is_file() and ".test." not in p.name]
    return sorted([*tops, SHELL / ".npmrc", *deep, ROOT / "contracts" / "api.d.ts", ROOT / "contracts" / "page.json"])


def fingerprint(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(ROOT)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def stamped(stamp: Path, wanted: str) -> bool:
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted


def current() -> bool:
    """The build is there and of these sources."""
    return (SHELL / "dist" / "renderer" / "index.html").is_file() and stamped(BUILT, fingerprint(sources()))


def npm(*words: str) -> bool:
    """Run npm in the package; says what it printed only when it failed."""
    program = shutil.which("npm") or "npm"
    environment = os.environ | {"ELECTRON_SKIP_BINARY_DOWNLOAD": "1", "PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD": "1"}
    done = subprocess.run([program, *words], cwd=SHELL, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"{done.stdout}{done.stderr}npm {' '.join(words)} failed ({done.returncode})", file=sys.stderr)
    return done.returncode == 0


def install() -> bool:
    """The packages of the lock file, when they are not those that are installed. No script of a package is run."""
    wanted = fingerprint([SHELL / "package.json", SHELL / "package-lock.json", SHELL / ".npmrc"])
    if stamped(INSTALLED, wanted):
        return True
    if not npm("ci", "--ignore-scripts", "--no-audit", "--no-fund"):
        return False
    INSTALLED.write_text(wanted, encoding="utf-8")
    return True


def build() -> bool:
    """Bring the build up to date. False when that failed; an older build stays."""
    if current():
        return True
    wanted = fingerprint(sources())
    print("launcher: building the page …", file=sys.stderr, flush=True)
    if not install() or not npm("run", "build"):
        return False
    BUILT.write_text(wanted, encoding="utf-8")
    return True


def main() -> int:
    if "--check" in sys.argv[1:]:
        print("the page is up to date" if current() else "the page is missing or old; run ./launcher page")
        return 0 if current() else 1
    lacking = None if current() else missing()
    if lacking is not None:
        print(f"launcher: {lacking}", file=sys.stderr)
        return 2
    return 0 if build() else 1


if __name__ == "__main__":
    sys.exit(main())
