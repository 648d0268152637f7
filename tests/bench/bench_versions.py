"""Versions of apps: an installation against the same steps typed by hand, going back, and what polls cost."""

from __future__ import annotations

import ensurepip
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import sidecar as running
from bench.table import Row, Run, interleave, percentile
from fixtures.releases import ReleaseServer
from fixtures.releases.content import COMFYUI, OLLAMA, REQUIREMENTS, comfyui, ollama

PIP = str(next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")))
"""Which apps expect in their environment."""
UV = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))


class Bench:
    """A release server and a sidecar that uses it. The cache of packages is warm."""

    def __init__(self, run: Run) -> None:
        self.folder = run.folder
        self.server = ReleaseServer().__enter__()
        count = run.pick(full=40, quick=12, tiny=2)
        self.server.releases[COMFYUI] = [comfyui(f"v0.{n}.0") for n in range(count, 0, -1)]
        self.server.releases[OLLAMA] = [ollama("v0.13.1"), ollama("v0.12.0")]
        self.env = {**self.server.environment(), "UV_CACHE_DIR": str(run.folder / "uv-cache")}
        (run.folder / "root").mkdir()
        self.sidecar = running.start(run.folder / "root", env=self.env)
        for app in ("comfyui", "ollama"):
            self.sidecar.result("get_available_versions", {"force_refresh": True, "app_id": app})
        self._number = 0

    def close(self) -> None:
        self.sidecar.close()
        self.server.__exit__(None, None, None)

    def install(self, tag: str, app: str = "comfyui", **options: Any) -> float:
        """Seconds until it is finished."""
        began = time.perf_counter()
        job_id = self.sidecar.result("install_version", {"tag": tag, "app_id": app, **options})["job_id"]
        while (job := self.sidecar.result("get_job", {"job_id": job_id})["job"])["state"] in ("queued", "running"):
            time.sleep(0.01)
        assert job["state"] == "completed", job
        return time.perf_counter() - began

    def by_hand(self, tag: str) -> float:
        """Download, unpack, make an environment, install, and see that it starts."""
        place = self.folder / f"hand-{tag}"
        place.mkdir()
        env = {**os.environ, **self.env}
        (place / "requirements.txt").write_text(REQUIREMENTS)
        archive = place / "a.zip"
        began = time.perf_counter()
        url = f"{self.server.url}/repos/{COMFYUI}/zipball/{tag}"
        for command in (
            ["curl", "-sSfL", "-o", str(archive), url],
            ["unzip", "-q", str(archive), "-d", str(place)],
            [UV, "venv", "-q", str(place / "venv")],
            [
                UV,
                "pip",
                "install",
                "-q",
                "--python",
                str(place / "venv"),
                "-r",
                "requirements.txt",
                "setproctitle",
                PIP,
            ],
        ):
            subprocess.run(command, check=True, cwd=place, env=env)
        source = next(place.glob("owner-*"))
        self._starts(place, source, env)
        return time.perf_counter() - began

    def _starts(self, place: Path, source: Path, env: dict[str, str]) -> None:
        from pumas.apps.description import Ready
        from pumas.processes.ports import free_port
        from pumas.processes.readiness import Answer, probe

        port = free_port()
        command = [str(place / "venv/bin/python"), "main.py", "--port", str(port)]
        with subprocess.Popen(command, cwd=source, env=env, stdout=subprocess.DEVNULL) as process:
            while probe(Ready("/system_stats"), port, [process.pid]) is not Answer.READY:
                assert process.poll() is None
                time.sleep(0.01)
            process.terminate()


def bench_versions(run: Run) -> list[Row]:
    """Installing a tiny app, against the same steps by hand; what a shell polls of versions; a rollback."""
    bench = Bench(run)
    try:
        times = run.pick(full=3, quick=2, tiny=1)
        bench.by_hand("v0.1.0")  # warms the cache
        tags = iter([f"v0.{n}.0" for n in range(1, 40)])
        hand = iter([f"v0.{n}.0" for n in range(2, 40)])
        # Two installs a minute are left for the bench itself: three are allowed.
        ours, by_hand = interleave(times, lambda: bench.install(next(tags)), lambda: bench.by_hand(next(hand)))
        rows = [Row("install: tiny app, warm cache", ours, "s", by_hand, ratio_at_most=1.3)]
        rows += _polls(bench, run.pick(full=300, quick=100, tiny=5))
        if times > 1:
            bench.sidecar.result("switch_version", {"tag": "v0.1.0"})
            bench.sidecar.result("switch_version", {"tag": "v0.2.0"})
            began = time.perf_counter()
            bench.sidecar.result("rollback_version")
            rows.append(Row("rollback", time.perf_counter() - began, "s", at_most=2.0))
        return rows
    finally:
        bench.close()


def _polls(bench: Bench, count: int) -> list[Row]:
    asked = len(bench.server.asked)
    targets = {"get_version_status": 5.0, "get_available_versions": 5.0, "get_github_cache_status": 5.0}
    targets |= {"get_installation_progress": 5.0, "get_installed_versions": 5.0}
    rows: list[Row] = []
    for method, target in targets.items():
        spent: list[float] = []
        for _ in range(count):
            began = time.perf_counter()
            bench.sidecar.result(method)
            spent.append((time.perf_counter() - began) * 1000)
        rows.append(Row(f"{method}, warm, p50", percentile(spent, 50), "ms", at_most=target))
    rows.append(Row("requests caused by these polls", len(bench.server.asked) - asked, "", at_most=0))
    return rows
