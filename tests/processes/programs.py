"""Tiny real apps, and a launcher root that has them installed.

Each app is a description in `launcher-data/apps` and one Python file; what it does stands in `BEHAVIOURS`. Processes
that a test leaves behind carry `MARK` in their environment, and `leftovers` finds them.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WEB = """
import http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"pid": os.getpid()}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
def serve(port=None):
    http.server.ThreadingHTTPServer(("127.0.0.1", port or int(sys.argv[1])), Handler).serve_forever()
"""

BEHAVIOURS: dict[str, str] = {
    "web": "print('hello', sys.argv[2:], flush=True); serve()",
    "deaf": "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); serve()",
    "flood": """
import threading
def flood():
    line = b"x" * 99 + b"\\n"
    while True: os.write(1, line * 500)
threading.Thread(target=flood, daemon=True).start(); serve()""",
    "forks": """
if os.fork() == 0:
    if os.fork() == 0: serve()
    os._exit(0)
os.wait(); os._exit(0)""",
    "escapes": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("escaped", "w").write(str(os.getpid())); serve()
    os._exit(0)
os.wait()
import time; time.sleep(3600)""",
    "zombies": """
for _ in range(3):
    if os.fork() == 0: os._exit(0)
serve()""",
    "family": """
import subprocess
for _ in range(3): subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
serve()""",
    "silent": "import time; time.sleep(3600)",
    "dead": "print('cannot start', flush=True); sys.exit(3)",
    "killed": "import signal; os.kill(os.getpid(), signal.SIGKILL)",
    "late": "import time; time.sleep(float(sys.argv[2]) if len(sys.argv) > 2 else 1.0); serve()",
    "elsewhere": "serve(int(sys.argv[2]))",
    # Waits at its first start until somebody has its port.
    "loser": """
import time
if not os.path.exists("port"):
    open("port.new", "w").write(sys.argv[1])
    os.rename("port.new", "port")
    while not os.path.exists("taken"): time.sleep(0.01)
serve()""",
    "environment": "open('environment', 'w').write(json.dumps(dict(os.environ))); serve()",
}

TIMEOUT_S = 20.0


@dataclass
class Root:
    """A launcher root with some of the apps above, each in version v1."""

    path: Path

    def install(self, name: str, behaviour: str | None = None, *, tag: str = "v1", ready_s: float = TIMEOUT_S) -> str:
        """Returns the app's id."""
        app: dict[str, Any] = {
            "id": name,
            "name": name.title(),
            "folder": f"{name}-versions",
            "releases": {"repository": "nobody/nothing"},
            "package": {"kind": "source", "complete": ["app.py"]},
            "launch": {
                "command": [sys.executable, "app.py", "{port}"],
                "port": free_port(),
                "ready": {"path": "/", "field": "pid", "timeout_s": ready_s},
            },
        }
        self._put(self.path / "launcher-data" / "apps" / f"{name}.json", json.dumps(app))
        self._put(self.folder(name, tag) / "app.py", WEB + BEHAVIOURS[behaviour or name])
        self._put(
            self.path / "launcher-data" / "metadata" / f"versions-{name}.json",
            json.dumps({"installed": {tag: {"path": f"{name}-versions/{tag}"}}}),
        )
        return name

    def install_comfyui(self, behaviour: str = "web", tag: str = "v1.0") -> Path:
        """A version of ComfyUI that is whole, with a tiny server in it; its folder."""
        folder = self.path / "comfyui-versions" / tag
        python = folder / "venv" / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.symlink_to(sys.executable)
        code = WEB.replace('{"pid"', '{"system": {}, "pid"')
        code += "sys.argv[1:4] = [sys.argv[sys.argv.index('--port') + 1]]\n"
        self._put(folder / "main.py", f"{code}if __name__ == '__main__':\n    {BEHAVIOURS[behaviour]}\n")
        versions = {"installed": {tag: {"path": f"comfyui-versions/{tag}"}}}
        self._put(self.path / "launcher-data" / "metadata" / "versions.json", json.dumps(versions))
        return folder

    def folder(self, name: str, tag: str = "v1") -> Path:
        return self.path / f"{name}-versions" / tag

    @property
    def ledger(self) -> Path:
        return self.path / "launcher-data" / "metadata" / "processes.json"

    def leftovers(self) -> list[int]:
        """Processes that were started in this root and still run, keepers included."""
        place = str(self.path)
        return [pid for pid in processes() if place in command_line(pid) + cwd(pid)] + self.keepers()

    def keepers(self) -> list[int]:
        """They are known by the log that they write."""
        found = [pid for pid in processes() if any(word in command_line(pid) for word in ("keeper.py", " keep "))]
        return [pid for pid in found if any(str(self.path) in name for name in open_files(pid))]

    @staticmethod
    def _put(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


def processes() -> Iterator[int]:
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return (pid for pid in pids if pid != os.getpid() and runs(pid))


def runs(pid: int) -> bool:
    """A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def cwd(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def open_files(pid: int) -> list[str]:
    try:
        return [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []
