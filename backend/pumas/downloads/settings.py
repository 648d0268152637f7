"""What the user set for downloads, and their order: `launcher-data/metadata/downloads.json`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from pumas.downloads.bandwidth import SLOWEST, check_rate
from pumas.downloads.queue import MOST_AT_ONCE, check_at_once
from pumas.downloads.schedule import Schedule
from pumas.errors import PumasError
from pumas.storage import json_file
from pumas.storage.files import disk_errors, make_folders
from pumas.storage.json_file import JsonObject, StateLock
from pumas.storage.troubles import Troubles

log = logging.getLogger(__name__)

AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class DownloadSettings:
    """`bytes_per_second` None means no limit, `schedule` None at any time; `order` holds ids of unfinished ones."""

    bytes_per_second: int | None = None
    at_once: int = AT_ONCE
    schedule: Schedule | None = None
    order: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises InvalidInput as `check_rate` and `check_at_once`."""
        check_rate(self.bytes_per_second)
        check_at_once(self.at_once)


class SettingsFile:
    """Calls block; they come from worker threads. Keys that are not ours are kept."""

    def __init__(self, path: Path, lock: StateLock, troubles: Troubles) -> None:
        self._path = path
        self._lock = lock
        self._troubles = troubles

    def load(self) -> DownloadSettings:
        """The defaults where nothing usable is written; what is damaged is reported, and kept when it is replaced."""
        name = self._path.name
        try:
            loaded = json_file.load(self._path)
        except PumasError as error:
            self._troubles.report(name, error.kind, str(error))
            return DownloadSettings()
        if loaded.recovered:
            self._troubles.report(
                name, "recovered_state", f"{name} was damaged ({loaded.recovered}); its backup is used."
            )
        value = loaded.value or {}
        settings = _read(value)
        kept = _written(settings)
        unusable = [key for key in kept if value.get(key) is not None and not _same(value[key], kept[key])]
        if unusable:
            self._troubles.report(
                name, "damaged_settings", f"{name}: {', '.join(unusable)} cannot be used; the defaults hold for that."
            )
        return settings

    def save(self, settings: DownloadSettings) -> None:
        """Raises the disk's failures; then nothing was changed."""
        with self._lock.held():
            try:
                value = json_file.load(self._path).value or {}
            except PumasError:
                value = {}
            with disk_errors("Writing the settings of downloads"):
                make_folders(self._path.parent)
            json_file.save(self._path, {**value, **_written(settings)})

    def save_order(self, settings: DownloadSettings, order: Sequence[str]) -> DownloadSettings:
        """Keep the order; a disk that refuses costs the order at the next start, not the download."""
        changed = replace(settings, order=tuple(order))
        if changed != settings:
            try:
                self.save(changed)
            except PumasError as error:
                log.warning("the order of downloads is not kept: %s", error)
        return changed


def _same(given: object, kept: object) -> bool:
    """Whether a value was taken; of objects and lists only that they were, not what was left out of them."""
    return type(given) is type(kept) and (isinstance(given, (dict, list)) or given == kept)


def _written(settings: DownloadSettings) -> JsonObject:
    schedule = settings.schedule
    return {
        "bytes_per_second": settings.bytes_per_second,
        "at_once": settings.at_once,
        "schedule": None
        if schedule is None
        else {"start": schedule.start, "end": schedule.end, "days": list(schedule.days)},
        "order": list(settings.order),
    }


def _read(value: JsonObject) -> DownloadSettings:
    """Each value by itself: one that makes no sense is as good as not there."""
    rate, at_once, order = _integer(value.get("bytes_per_second")), _integer(value.get("at_once")), value.get("order")
    return DownloadSettings(
        bytes_per_second=rate if rate is not None and rate >= SLOWEST else None,
        at_once=at_once if at_once is not None and 1 <= at_once <= MOST_AT_ONCE else AT_ONCE,
        schedule=_schedule(value.get("schedule")),
        order=tuple(text for text in _list(order) if isinstance(text, str)),
    )


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _schedule(value: Any) -> Schedule | None:
    if not isinstance(value, dict):
        return None
    given = cast(dict[str, Any], value)
    try:
        return Schedule(given["start"], given["end"], tuple(_list(given.get("days"))))
    except (PumasError, KeyError, TypeError):
        return None


def _list(value: object) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else []
