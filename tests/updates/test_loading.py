"""After `load_all` nothing of the program is read from the disk any more, whatever is called then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BACKEND = Path(__file__).resolve().parents[2] / "backend"
CODE = """
import importlib, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pumas.updates.loading import load_all
load_all()

class Nothing:
    def find_spec(self, name, path=None, target=None):
        assert name.partition(".")[0] != "pumas", f"{name} is loaded late"

sys.meta_path.insert(0, Nothing())
from pumas.app import build_methods, build_services
from pumas.config import Layout
from pumas.events.stream import EventStream
from pumas.rpc.registry import names_by_domain
from pumas.storage.troubles import Troubles
services = build_services(Layout(Path(sys.argv[2])), EventStream(), Troubles())
methods = build_methods(services, lambda: None)
for domain in names_by_domain():
    importlib.import_module(f"pumas.{domain}.methods")
services.links.work.places.all()
services.adoption.work.adoptions(undone=True, limit=1, offset=0)
print("loaded", *sorted(name for name in sys.modules if name in ("pumas.cli.tree", "pumas.client.sync", "typer")))
"""


def test_nothing_is_loaded_late(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(BACKEND), str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.returncode) == ("loaded\n", 0), done.stderr
