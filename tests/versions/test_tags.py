"""Tags are folder names, and v0.10 comes after v0.9."""

from __future__ import annotations

import pytest

from apps.test_description import shipped
from pumas.errors import InvalidInput
from pumas.versions.tags import check_tag, newest_first, offered


@pytest.mark.parametrize("text", ["v0.3.10", "1", "b7001", " v1.0 ", "V1-rc.1"])
def test_tags(text: str) -> None:
    assert check_tag(text) == text.strip()


@pytest.mark.parametrize(
    "text", ["", " ", ".hidden", "-x", "a/b", "../x", "a\\b", "a_b", "a+b", "v1\nExec=x", "con", "v1.", "x" * 101, "é"]
)  # fmt: skip
def test_what_is_no_tag_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        check_tag(text)


@pytest.mark.parametrize(
    ("app", "tags", "order"),
    [
        ("comfyui", ["v0.9", "v0.10", "v0.2.1"], ["v0.10", "v0.9", "v0.2.1"]),
        ("comfyui", ["v1.0rc1", "v1.0", "nightly"], ["v1.0", "v1.0rc1", "nightly"]),
        ("comfyui", ["b", "a"], ["b", "a"]),
        ("llamacpp", ["b999", "b7001", "b6999"], ["b7001", "b6999", "b999"]),
    ],
)
def test_newest_first(app: str, tags: list[str], order: list[str]) -> None:
    assert newest_first(shipped(app), tags) == order
    assert newest_first(shipped(app), reversed(tags)) == order


@pytest.mark.parametrize(
    ("app", "tags", "kept"),  # what GitHub alone calls a prerelease begins with "test "
    [
        ("comfyui", ["v0.3.10", "v0.3.9", "v0.2.7", "v0.2.8", "latest"], ["v0.3.10", "v0.2.8"]),
        ("comfyui", ["v1.0.0rc1", "v0.9.0"], ["v1.0.0rc1", "v0.9.0"]),
        ("comfyui", [], []),
        ("llamacpp", ["b7001", "b7000", "gguf-v0.9"], ["b7001", "b7000"]),
        ("comfyui", ["v1.0.1+cu121", "v1.0.0", "v0.9_1"], ["v1.0.0"]),
        ("comfyui", ["v0.9.3", "v0.10.0", "v0.9.2"], ["v0.10.0", "v0.9.3"]),
        (
            "ollama",
            ["v0.13.2-rc1", "v0.13.2-rc0", "v0.13.1", "v0.13.1-rc0", "v0.12.9"],
            ["v0.13.2-rc1", "v0.13.1", "v0.12.9"],
        ),
        ("ollama", ["v0.13.4", "test v0.13.5", "v0.12.9"], ["v0.13.5", "v0.13.4", "v0.12.9"]),
    ],
)
def test_offered_are_the_highest_of_each_minor_newest_first(app: str, tags: list[str], kept: list[str]) -> None:
    plain = [tag.removeprefix("test ") for tag in tags]
    assert offered(shipped(app), plain, {tag.removeprefix("test ") for tag in tags if tag.startswith("test ")}) == kept
