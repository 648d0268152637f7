"""What a terminal of any size shows of downloads, and how much a pipe gets to read."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from pumas.cli.download_view import Lines, Moving, Shown, picture

MIB = 1 << 20
ONE = Shown(
    "download-1",
    "acme/Lumen-7B-Instruct q4_k_m",
    "downloading",
    done=30 * MIB,
    total=100 * MIB,
    speed=10 * MIB,
    eta_s=7,
    files=[Moving("config.json", 5, 10), Moving("deep/folder/model-00001-of-00002.safetensors", 20 * MIB, 50 * MIB)],
)


def drawn(downloads: list[Shown], width: int, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(picture(downloads, width, height))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [40, 80, 120, 300])
def test_files_total_and_words(width: int) -> None:
    config, shard, total, words = drawn([ONE], width)
    assert max(map(len, (config, shard, total, words))) <= width
    assert config.split()[-4:] == ["50", "%", "5/10", "B"]
    assert shard.split()[-4:] == ["40", "%", "20.0/50.0", "MiB"]
    assert total.split()[-4:] == ["30", "%", "30.0/100.0", "MiB"]
    assert words == "downloading, 10.0 MiB/s, 0:07 left"
    assert "━" in total


def test_a_long_path_shows_its_end() -> None:
    shard = drawn([ONE], 80)[1]
    assert shard.startswith("…model-00001-of-00002.safetensors  ━")
    assert drawn([ONE], 120)[1].startswith("deep/folder/model-00001-of-00002.safetensors ")


def test_bars_of_all_stand_below_each_other() -> None:
    lines = drawn([ONE, replace(ONE, id="download-2", title="x", files=[])], 100)
    assert len({line.index("━") for line in lines if "━" in line}) == 1


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("height", [10, 24, 60])
def test_many_files_fit_the_height(count: int, height: int) -> None:
    files = [Moving(f"file-{number}", 0, 1) for number in range(16)]
    lines = drawn([replace(ONE, id=f"{n}", files=files) for n in range(count)], 80, height)
    assert len(lines) <= max(height - 1, 3 * count)
    shown = sum(line.startswith("file-") for line in lines) // count
    assert f"({16 - shown} more files)" in lines[-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": "retrying", "message": "hub closed the connection."}, "retrying: hub closed the connection."),
        ({"status": "waiting", "message": "Outside the hours."}, "waiting: Outside the hours."),
        ({"status": "verifying", "eta_s": 0.0}, "verifying"),
        ({"status": "queued", "place": 2, "speed": 0.0}, "queued, 2 before it"),
        ({"status": "queued", "place": 0, "speed": 0.0}, "queued"),
        ({"eta_s": None}, "downloading, 10.0 MiB/s"),
        ({"speed": 0.0}, "downloading"),
        ({"message": "Began x again: y."}, "downloading, 10.0 MiB/s, 0:07 left: Began x again: y."),
    ],
)
def test_words(change: dict[str, object], words: str) -> None:
    assert replace(ONE, **change).words == words  # pyright: ignore[reportArgumentType]


def test_nothing_drives_the_terminal() -> None:
    evil = replace(ONE, title="\x1b[2J[bold]x", message="\x1b]0;y\x07", files=[Moving("[red]\x1bz", 1, 2)])
    text = "\n".join(drawn([evil], 80))
    assert "\x1b" not in text
    # What looks like markup is text.
    assert "[2J[bold]x" in text
    assert "[red]z" in text


def test_a_hundred_percent_is_all() -> None:
    assert replace(ONE, done=100 * MIB - 1).percent == "99 %"
    assert replace(ONE, done=100 * MIB).percent == "100 %"
    assert replace(ONE, done=0, total=0).percent == "100 %"


def test_a_pipe_gets_few_lines() -> None:
    said: list[str] = []
    now = 0.0
    lines = Lines(said.append, clock=lambda: now)
    # Two hours of a slow download, told twice a second.
    for step in range(14_400):
        now = step / 2
        lines.show([replace(ONE, done=step * 100 * MIB // 14_400)])
    assert 60 <= len(said) <= 135
    assert said[0] == "acme/Lumen-7B-Instruct q4_k_m: 0 % of 100.0 MiB, downloading, 10.0 MiB/s, 0:07 left"


def test_a_pipe_hears_of_a_change_but_not_of_each() -> None:
    said: list[str] = []
    now = 0.0
    lines = Lines(said.append, clock=lambda: now)
    for step in range(40):
        now = step / 2
        status = "retrying" if step % 3 else "downloading"
        lines.show([replace(ONE, status=status), replace(ONE, id="download-2", title="other")])
    mine = [line for line in said if not line.startswith("other")]
    assert 3 <= len(mine) <= 5
    assert "retrying" in mine[1]
    assert len(said) - len(mine) == 1
