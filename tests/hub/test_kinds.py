import pytest

from hub.published import NAMES
from pumas.hub import kinds


def test_the_table_is_long_enough_to_mean_something() -> None:
    assert len(NAMES) >= 200
    assert len([1 for _role, label in NAMES.values() if label]) >= 90


@pytest.mark.parametrize(("path", "role"), [(path, role) for path, (role, _label) in NAMES.items()])
def test_what_a_file_is_for(path: str, role: str) -> None:
    assert kinds.role(path) == role


@pytest.mark.parametrize(
    ("path", "label"), [(path, label) for path, (role, label) in NAMES.items() if role not in ("companion", "helper")]
)
def test_what_tells_it_from_its_siblings(path: str, label: str) -> None:
    assert kinds.label(path) == label
