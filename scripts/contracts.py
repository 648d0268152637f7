"""Write what is generated from the method table: contracts/openrpc.json, METHODS.md and api.d.ts.

`--check` writes nothing and fails when a committed file differs.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "backend"))

from pumas.app import build_methods, build_services  # noqa: E402
from pumas.config import Layout  # noqa: E402
from pumas.rpc import openrpc  # noqa: E402


def generated() -> dict[str, str]:
    """File name -> content."""
    with tempfile.TemporaryDirectory() as folder:
        services = build_services(Layout(Path(folder)))
        document = openrpc.document(build_methods(services, stop=lambda: None))
        services.close_databases()
    return {
        "openrpc.json": json.dumps(document, indent=1, ensure_ascii=False) + "\n",
        "METHODS.md": openrpc.methods_page(document),
        "api.d.ts": openrpc.typescript(document),
    }


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = []
    for name, content in generated().items():
        path = ROOT / "contracts" / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            stale.append(name)
            if not check:
                path.write_text(content, encoding="utf-8")
    if check and stale:
        print(f"stale: {', '.join(stale)}; run ./launcher contracts")
        return 1
    print("contracts are up to date" if not stale else f"written: {', '.join(stale)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
