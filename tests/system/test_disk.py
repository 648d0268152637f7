import shutil
from pathlib import Path

import pytest

from pumas.errors import DiskError
from pumas.system import disk


def test_the_numbers_are_those_of_the_filesystem_that_holds_the_path(tmp_path: Path) -> None:
    space, expected = disk.measure(tmp_path), shutil.disk_usage(tmp_path)
    assert space.total == expected.total
    assert abs(space.used - expected.used) < 1 << 30 and abs(space.free - expected.free) < 1 << 30
    assert space.percent == round(100 * space.used / space.total, 1)


def test_another_filesystem_gives_other_numbers() -> None:
    assert disk.measure(Path("/proc")).total == 0 and disk.measure(Path("/proc")).percent == 0.0


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [(0, 10, 0.0), (1, 3, 33.3), (2, 3, 66.7), (10, 10, 100.0), (11, 10, 100.0), (-1, 10, 0.0), (5, 0, 0.0)],
)
def test_percent(part: float, whole: float, expected: float) -> None:
    assert disk.percent(part, whole) == expected


def test_a_path_that_is_gone_is_a_disk_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="No such file or directory") as caught:
        disk.measure(tmp_path / "unplugged")
    assert str(tmp_path) not in str(caught.value)
