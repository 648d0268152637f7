"""Are all crates that the Rust sidecar is built of from crates.io, under licences that `rust/licences.txt` lists?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import rust_backend

CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"
LISTED = rust_backend.WORKSPACE / "licences.txt"


def allowed() -> set[str]:
    lines = LISTED.read_text(encoding="utf-8").splitlines()
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def accepted(expression: str, listed: set[str]) -> bool:
    """One of each `OR`, all of `AND`. Older crates write `/` for `OR`."""
    plain = expression.replace(" / ", " OR ").replace("/", " OR ").replace("(", "").replace(")", "")
    return all(any(one.strip() in listed for one in part.split(" OR ")) for part in plain.split(" AND "))


def problems(packages: list[dict[str, str | None]]) -> list[str]:
    listed, found = allowed(), list[str]()
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if package["source"] not in (CRATES_IO, None):
            found.append(f"{name} comes from {package['source']}")
        if not accepted(package["license"] or "none", listed):
            found.append(f"{name} is under {package['license']}")
    return found


def main() -> int:
    command = [rust_backend.cargo() or "cargo", "metadata", "--locked", "--format-version", "1"]
    done = subprocess.run(command, cwd=Path(rust_backend.WORKSPACE), capture_output=True, text=True)
    if done.returncode != 0:
        sys.stderr.write(done.stderr)
        return 1
    packages = json.loads(done.stdout)["packages"]
    found = problems(packages)
    for problem in found:
        print(problem)
    print(f"{len(packages)} crates, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
