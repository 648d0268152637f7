"""Write what is generated from the method table: contracts/openrpc.json, domains.json, METHODS.md, api.d.ts, the
typed Python client.

`--check` writes nothing and fails when a committed file differs.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "backend"))

from python_client import modules  # noqa: E402

from pumas.app import build_services, declare, domains  # noqa: E402
from pumas.config import Layout  # noqa: E402
from pumas.events.stream import EventStream  # noqa: E402
from pumas.rpc import builtin, openrpc  # noqa: E402
from pumas.rpc.registry import Methods  # noqa: E402
from pumas.storage.troubles import Troubles  # noqa: E402


def generated() -> dict[str, str]:
    """Path below the checkout -> content."""
    with tempfile.TemporaryDirectory() as folder:
        services = build_services(Layout(Path(folder)), EventStream(), Troubles())
        methods, names = Methods(), dict[str, list[str]]()
        builtin.register(methods, lambda: None)
        for domain, given in domains(services, lambda: None).items():
            before = {row.name for row in methods}
            declare(domain, given, methods)
            names[domain] = [row.name for row in methods if row.name not in before]
        document = openrpc.document(methods)
        services.close_databases()
    errors = json.loads((ROOT / "contracts" / "errors.json").read_text(encoding="utf-8"))
    return {
        "contracts/openrpc.json": json.dumps(document, indent=1, ensure_ascii=False) + "\n",
        "contracts/domains.json": json.dumps(names, indent=1) + "\n",
        "contracts/METHODS.md": openrpc.methods_page(document),
        "contracts/api.d.ts": openrpc.typescript(document),
        **modules(document, errors),
    }


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = []
    for name, content in generated().items():
        path = ROOT / name
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
