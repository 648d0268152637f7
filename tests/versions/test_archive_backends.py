"""The same archive gives the same files under both backends, or is refused by both in the same words."""

from __future__ import annotations

import io
import lzma
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract.served import rust_is_built
from fixtures.releases import Release, ReleaseServer
from fixtures.releases.archives import (
    Member,
    ZipMember,
    bundle,
    gzipped,
    tarred,
    unicode_path,
    zipped_by_hand,
    zstandarded,
)
from fixtures.releases.content import OLLAMA
from orders import switched
from sidecar import Sidecar

from .setup import server
from .test_sidecar import wait_for

__all__ = ["server"]
Launch = Callable[..., Sidecar]
# Without the Rust backend Python takes its place.
BACKENDS = ("python", "rust" if rust_is_built() else "python")
UTF8, DESCRIBED = 1 << 11, 1 << 3
DEEP = "/".join(["folder" * 8] * 4) + "/name.txt"


class Installing:
    """Installs archives as releases of one app, each under a backend of its own root."""

    def __init__(self, launch: Launch, server: ReleaseServer, folder: Path) -> None:
        self._launch, self._server, self._folder = launch, server, folder

    def each(self, backend: str, archives: list[bytes]) -> list[tuple[dict[str, Any], Path]]:
        """At most as many as may be installed in one minute: how each ended, and where it lies."""
        tags = [f"v1.{number}.0" for number in range(len(archives))]
        asset = "ollama-linux-amd64.tar.zst"
        self._server.releases[OLLAMA] = [
            Release(tag, assets={asset: data}) for tag, data in zip(tags, archives, strict=True)
        ]
        root = self._folder / f"{backend}-{len(list(self._folder.iterdir()))}"
        of_app = {"app_id": "ollama"}
        sidecar = self._launch(root=root, env=switched(backend, self._server.environment()))
        sidecar.result("get_available_versions", {**of_app, "force_refresh": True})
        ended: list[tuple[dict[str, Any], Path]] = []
        for tag in tags:
            job_id = sidecar.result("install_version", {**of_app, "tag": tag})["job_id"]
            ended.append((wait_for(sidecar, job_id), root / "ollama-versions" / tag))
        return ended


@pytest.fixture
def installing(launch: Launch, server: ReleaseServer, tmp_path: Path) -> Installing:
    return Installing(launch, server, tmp_path)


def zip_of(*members: ZipMember, **told: Any) -> bytes:
    """A zip of a program that runs, and of these."""
    usual = [
        ZipMember(m.name.encode(), m.data, stat.S_IFREG | m.mode)
        if m.link is None
        else ZipMember(m.name.encode(), m.link.encode(), stat.S_IFLNK | 0o777)
        for m in bundle("v1")
    ]
    return zipped_by_hand([*usual, *members], **told)


def tar_of(*members: Member, **facts: Any) -> bytes:
    return tarred([*bundle("v1"), *members], **facts)


def oldest_tar() -> bytes:
    """Its folders are files of no type whose names end with a slash."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        folder = tarfile.TarInfo("old/")
        folder.type = tarfile.AREGTYPE
        archive.addfile(folder)
    return out.getvalue()[:512] + tar_of()


def with_head(data: bytes, name: str, at: int, field: bytes) -> bytes:
    """The tar with other bytes in the head of one member, and its sum made right again."""
    start = next(n for n in range(0, len(data), 512) if data[n:].startswith(name.encode() + b"\0"))
    head = bytearray(data[start : start + 512])
    head[at : at + len(field)] = field
    head[148:156] = b"%06o\0 " % (sum(head[:148]) + 8 * 32 + sum(head[156:]))
    return data[:start] + bytes(head) + data[start + 512 :]


def shown(folder: Path) -> dict[str, tuple[str, bytes]]:
    """What is in a folder, but for the mark of the installation: modes, and contents or where links lead."""
    found: dict[str, tuple[str, bytes]] = {}
    for path in folder.rglob("*"):
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        if not path.name.startswith(".pumas"):
            found[str(path.relative_to(folder))] = (stat.filemode(path.lstat().st_mode), content)
    return found


ZIP = zip_of(
    ZipMember(b"437/gr\x81n.txt", b"1"),
    ZipMember(b"437/" + bytes(range(0x80, 0xC0)), b"2"),
    ZipMember(b"437/" + bytes(range(0xC0, 0x100)), b"3"),
    ZipMember("flagged/grün.txt".encode(), b"4", flags=UTF8),
    ZipMember(b"repeated/gr?n.txt", b"5", extra=unicode_path("repeated/grün.txt", b"repeated/gr?n.txt")),
    ZipMember(b"repeated/other.txt", b"6", extra=unicode_path("elsewhere.txt", b"another.txt")),
    ZipMember(b"described", b"7" * 999, flags=DESCRIBED),
    ZipMember(b"modes/special", mode=stat.S_IFREG | 0o6755),
    ZipMember(b"modes/none", mode=0),
    ZipMember(b"modes/others", mode=stat.S_IFREG | 0o001),
    ZipMember(b"modes/folder/", mode=stat.S_IFDIR | 0o700),
    ZipMember(b"./here", b"8"),
    ZipMember(b"twice/"),
    ZipMember(b"twice/"),
    zip64=True,
)
TAR = tar_of(
    Member("special", b"x", 0o6777),
    Member("hard/one", link="bin/ollama", kind=tarfile.LNKTYPE),
    Member("./hard/two", link="./hard/one", kind=tarfile.LNKTYPE),
    Member(DEEP, b"x"),
    Member("link", link=f"lib/{'x' * 200}"),
    Member("grün/名前", b"x"),
    Member("closed", mode=0, kind=tarfile.DIRTYPE),
    Member("closed/file", b"x"),
)


@pytest.mark.parametrize(
    ("archives", "has"),
    [
        ([ZIP, zip_of() + b"behind"], ["437/grün.txt", "flagged/grün.txt", "repeated/grün.txt", "described"]),
        ([TAR, oldest_tar()], ["hard/two", DEEP, "grün/名前"]),
        (
            [
                tar_of(of_all={"comment": "0123456789abcdef"}),
                with_head(tar_of(Member("x", b"1")), "x", 100, bytes(8)),
                with_head(tar_of(Member("x", b"1")), "x", 108, b"\x80" + bytes(6) + b"\x07"),
            ],
            [],
        ),
        (
            [
                zstandarded(TAR[:1000]) + zstandarded(TAR[1000:]),
                gzipped(TAR[:1000]) + bytes(99) + gzipped(TAR[1000:]) + bytes(99),
            ],
            ["hard/two"],
        ),
    ],
    ids=["zip", "tar", "heads of a tar", "several parts"],
)
def test_unusual_archives_are_installed_alike(installing: Installing, archives: list[bytes], has: list[str]) -> None:
    found: list[list[dict[str, tuple[str, bytes]]]] = []
    for backend in BACKENDS:
        ended = installing.each(backend, archives)
        assert [(job["state"], job["error"]) for job, _place in ended] == [("completed", None)] * len(archives)
        found.append([shown(place) for _job, place in ended])
    assert found[0] == found[1]
    assert set(has) <= set(found[0][0])


@pytest.mark.parametrize(
    "archives",
    [
        {
            "it has more than 300,000 members": zip_of(count=300_001, zip64=True),
            "it is damaged: it has another number of members than it says": zip_of(count=2),
            "it has two members of one name ('bin/ollama')": zip_of(ZipMember(b"bin/ollama", b"x", at=0)),
        },
        {
            "it cannot be read: a member is packed in an unusual way ('x')": zip_of(ZipMember(b"x", method=12)),
            "it is damaged: a member has another name than in the list of members": zip_of(ZipMember(b"x", head=b"y")),
            "a name is not well-formed text ('\ufffd')": zip_of(ZipMember(b"\xff", flags=UTF8)),
        },
        {
            "a member is no file, folder or link ('x')": tar_of(Member("x", kind=tarfile.FIFOTYPE)),
            "a link leads elsewhere ('x')": tar_of(Member("x", link="/bin/sh")),
            "a name is not well-formed text ('\ufffd')": tar_of(Member("\udcff"), format=tarfile.GNU_FORMAT),
        },
        {
            "a member that is no file has content ('d')": tar_of(Member("d", b"x" * 512, kind=tarfile.DIRTYPE)),
            "it says of all members what can be so of one": tar_of(of_all={"comment": "1", "path": "everywhere"}),
            "it is damaged: invalid header": with_head(tar_of(Member("x")), "x", 100, b"0000x44\0"),
        },
        {
            "it is no program and no archive that is known (zip, tar, tar.gz or tar.zst)": lzma.compress(TAR),
        },
    ],
    ids=["lists", "members", "tar", "heads of a tar", "another kind"],
)
def test_archives_are_refused_in_the_same_words(installing: Installing, archives: dict[str, bytes]) -> None:
    for backend in BACKENDS:
        ended = installing.each(backend, list(archives.values()))
        assert [job["error"] for job, _place in ended] == [f"The archive was refused: {why}." for why in archives]
        assert not any(place.exists() for _job, place in ended)
