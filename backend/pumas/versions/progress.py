"""How far the installation of an app is, in the shape that older clients poll (`get_installation_progress`).

Threads report, polls read from memory, and the file that older sidecars keep is written at most once a second. The
record always ends with `completed_at` and `success`.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pumas.errors import PumasError
from pumas.storage.files import make_folders
from pumas.storage.json_file import JsonObject, encode
from pumas.versions.places import write_lightly

STAGES = {"download": 15, "extract": 5, "venv": 5, "dependencies": 70, "setup": 5}
"""Stage -> weight in percent."""
PACKAGE_WEIGHTS = {
    "torch": 15,
    "tensorflow-gpu": 15,
    "tensorflow": 12,
    "opencv-contrib-python": 6,
    "torchvision": 5,
    "onnxruntime-gpu": 5,
    "opencv-python": 4,
    "opencv-python-headless": 4,
    "xformers": 4,
    "onnxruntime": 4,
    "torchaudio": 3,
    "scipy": 3,
    "scikit-learn": 3,
    "scikit-image": 3,
    "transformers": 3,
    "pandas": 2,
    "matplotlib": 2,
    "diffusers": 2,
    "accelerate": 2,
}
_WRITE_S = 1.0
_MOST_ITEMS = 1000


@dataclass(frozen=True, slots=True)
class Item:
    """`kind` is `archive` or `package`; `size` in bytes when known."""

    name: str
    kind: str
    size: int | None
    completed_at: str


@dataclass
class _Record:
    tag: str
    started_at: str
    log_path: str | None
    stage: str = "download"
    stage_progress: float = 0.0
    current_item: str | None = None
    speed: float | None = None
    eta_s: float | None = None
    total: int | None = None
    downloaded: int = 0
    dependencies: int | None = None
    completed: int = 0
    items: list[Item] = field(default_factory=list[Item])
    error: str | None = None
    weight: int | None = None
    weight_done: int = 0
    completed_at: str | None = None
    success: bool | None = None


class Progress:
    """Thread-safe. One installation."""

    def __init__(
        self,
        tag: str,
        path: Path,
        log_path: Path | None = None,
        told: Callable[[JsonObject], None] = lambda _record: None,
    ) -> None:
        """`path` is the file of older sidecars; `told` hears of each change."""
        self._record = _Record(tag, _now(), str(log_path) if log_path else None)
        self._path = path
        self._told = told
        self._lock = threading.Lock()
        self._written = 0.0

    @property
    def tag(self) -> str:
        return self._record.tag

    @property
    def finished(self) -> bool:
        return self._record.completed_at is not None

    def stage(self, name: str, item: str | None = None) -> None:
        with self._lock:
            self._record.stage, self._record.stage_progress, self._record.current_item = name, 0.0, item
            self._record.speed = self._record.eta_s = None
        self._tell(at_once=True)

    def at(self, fraction: float, item: str | None = None) -> None:
        """How far the stage is, 0 to 1; it never goes back."""
        with self._lock:
            self._record.stage_progress = max(self._record.stage_progress, min(1.0, max(0.0, fraction)))
            if item is not None:
                self._record.current_item = item[:200]
        self._tell()

    def download(self, done: int, total: int | None, speed: float | None, eta_s: float | None) -> None:
        with self._lock:
            record = self._record
            record.downloaded, record.total, record.speed, record.eta_s = done, total, speed, eta_s
            if total:
                record.stage_progress = min(1.0, done / total)
        self._tell()

    def speed(self, bytes_per_s: float | None) -> None:
        with self._lock:
            self._record.speed = bytes_per_s
        self._tell()

    def plan(self, packages: list[str]) -> None:
        """These packages (normalised names) will be installed."""
        with self._lock:
            self._record.dependencies = len(packages)
            self._record.weight = sum(weight_of(name) for name in packages)

    def arrived(self, name: str, kind: str, size: int | None = None) -> None:
        """An archive or a package is done."""
        with self._lock:
            record = self._record
            if len(record.items) < _MOST_ITEMS:
                record.items.append(Item(name, kind, size, _now()))
            if kind == "package":
                record.completed += 1
                record.weight_done += weight_of(name)
                if record.weight:
                    record.stage_progress = max(record.stage_progress, min(1.0, record.weight_done / record.weight))
        self._tell()

    def end(self, error: str | None) -> None:
        """None: it worked."""
        with self._lock:
            record = self._record
            if record.completed_at is not None:
                return
            record.error, record.success, record.completed_at = error, error is None, _now()
            record.speed = record.eta_s = None
            if error is None:
                record.stage_progress = 1.0
        self._tell(at_once=True)

    def snapshot(self) -> JsonObject:
        with self._lock:
            return _shown(self._record)

    def _tell(self, *, at_once: bool = False) -> None:
        shown = self.snapshot()
        self._told(shown)
        moment = time.monotonic()
        if at_once or moment - self._written > _WRITE_S:
            self._written = moment
            # Of use to older sidecars only; a full disk must not end an installation that has its room already.
            with contextlib.suppress(PumasError, OSError):
                make_folders(self._path.parent)
                write_lightly(self._path, encode(shown))


def weight_of(package: str) -> int:
    return PACKAGE_WEIGHTS.get(package, 1)


def _overall(record: _Record) -> int:
    if record.success:
        return 100
    before = 0
    for name, weight in STAGES.items():
        if name == record.stage:
            return int(before + weight * record.stage_progress)
        before += weight
    return before


def _shown(record: _Record) -> JsonObject:
    shown: JsonObject = {
        "tag": record.tag,
        "started_at": record.started_at,
        "stage": record.stage,
        "stage_progress": int(record.stage_progress * 100),
        "overall_progress": _overall(record),
        "current_item": record.current_item,
        "download_speed": None if record.speed is None else round(record.speed, 1),
        "eta_seconds": None if record.eta_s is None else int(record.eta_s),
        "total_size": record.total,
        "downloaded_bytes": record.downloaded,
        "dependency_count": record.dependencies,
        "completed_dependencies": record.completed,
        "completed_items": [
            {"name": item.name, "type": item.kind, "size": item.size, "completed_at": item.completed_at}
            for item in record.items
        ],
        "error": record.error,
        "pid": None,
        "log_path": record.log_path,
    }
    if record.weight is not None:
        shown |= {"total_weight": record.weight, "completed_weight": record.weight_done}
    if record.completed_at is not None:
        shown |= {"completed_at": record.completed_at, "success": record.success}
    return shown


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
