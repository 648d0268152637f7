"""Archives: what is good comes out as it was; what is hostile is refused and writes nothing outside."""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.releases.archives import (
    Member,
    ZipMember,
    below,
    gzipped,
    tarred,
    unicode_path,
    web_app,
    zipped,
    zipped_by_hand,
    zstandarded,
)
from pumas.errors import Cancelled, NotEnoughSpace, UnsafeArchive
from pumas.versions import archive
from pumas.versions.archive import Limits, extract, form_of, single_folder
from pumas.versions.zip_archive import ZipArchive

FORMS: dict[str, Callable[[list[Member]], bytes]] = {
    "zip": zipped,
    "tar": tarred,
    "tgz": lambda members: gzipped(tarred(members)),
    "tar.zst": lambda members: zstandarded(tarred(members)),
}
TARS = [form for form in FORMS if form != "zip"]
GOOD = [
    *web_app("v1", "x\n"),
    Member("lib/deep/down/a.so.1", b"elf", 0o755),
    Member("lib/a.so", link="deep/down/a.so.1"),
    Member("up/back", link="../lib/a.so"),
    Member("ünïcode/名前.txt", b"x"),
]


@pytest.fixture(params=["filtered", "unfiltered"], autouse=True)
def filters(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `tarfile` itself refuses is refused without it too: its filters were passed more than once."""
    if request.param == "unfiltered":
        monkeypatch.setattr(archive, "_filtered", _let_pass)


def _let_pass(_member: tarfile.TarInfo, _target: Path) -> None:
    return


def write(folder: Path, data: bytes) -> Path:
    path = folder / "archive.bin"
    path.write_bytes(data)
    return path


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def check_refused(tmp_path: Path, data: bytes, says: str | None = None, limits: Limits | None = None) -> None:
    inside = tmp_path / "a" / "b" / "target"
    inside.parent.mkdir(parents=True)
    archive = write(tmp_path, data)
    before = everything(tmp_path)
    with pytest.raises(UnsafeArchive, match=says):
        extract(archive, inside, limits=limits)
    outside = {name for name in everything(tmp_path) - before if not name.startswith("a/b/target")}
    assert outside == set()
    for path in inside.rglob("*"):
        assert Path(os.path.realpath(path)).is_relative_to(inside.resolve()) or path.is_symlink()


def test_what_macos_packs_beside_a_folder_is_none_of_its(tmp_path: Path) -> None:
    for name in ("top/main.py", "__MACOSX/top/._main.py", "._top", ".DS_Store"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert single_folder(tmp_path) == tmp_path / "top"
    (tmp_path / "README").write_bytes(b"x")
    assert single_folder(tmp_path) == tmp_path


@pytest.mark.parametrize("form", FORMS)
def test_good_archives_come_out_as_they_were(tmp_path: Path, form: str) -> None:
    archive, target = write(tmp_path, FORMS[form](below("top", GOOD))), tmp_path / "target"
    read: list[int] = []
    extract(archive, target, advance=read.append)
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
    top = single_folder(target)
    assert top.name == "top"
    for member in GOOD:
        path = top / member.name
        if member.link is None:
            assert path.read_bytes() == member.data
            assert bool(path.stat().st_mode & 0o100) == bool(member.mode & 0o100)
        else:
            assert os.readlink(path) == member.link
            assert path.read_bytes() == b"elf"
    assert sum(read) <= archive.stat().st_size
    assert sum(read) > 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "member",
    [
        Member("../escaped", b"x"),
        Member("ok/../../escaped", b"x"),
        Member("/tmp/pumas-escaped", b"x"),
        Member("a\\..\\..\\escaped", b"x"),
        Member("C:/escaped", b"x"),
        Member("con", b"x"),
        Member("name ", b"x"),
        Member("a\x01b", b"x"),
        Member("n" * 300, b"x"),
        Member("/".join(["d"] * 600), b"x"),
        Member("link", link="/etc/passwd"),
        Member("link", link="../outside"),
        Member("x/link", link="../../outside"),
        Member("link", link="."),
        Member("link", link=""),
        Member("link", link="a\\b"),
    ],
    ids=lambda member: member.name[:20] + (f"->{member.link}" if member.link is not None else ""),
)
def test_members_that_lead_out_are_refused(tmp_path: Path, form: str, member: Member) -> None:
    check_refused(tmp_path, FORMS[form]([Member("first.txt", b"x"), member]))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "members",
    [
        [Member("a.txt", b"1"), Member("a.txt", b"2")],
        [Member("a.txt", b"1"), Member("A.TXT", b"2")],
        [Member("e\u0301", b"1"), Member("\u00e9", b"2")],
        [Member("a", b"1"), Member("a/b", b"2")],
        [Member("d", link="x"), Member("d/file", b"2"), Member("x/y", b"")],
        [Member("p/q/r/l", link="../../../a"), Member("a/f", b""), Member("z", link="p/q/r/l/../../..")],
        [Member("l1", link="l2"), Member("l2", link="l1/../../x")],
    ],
    ids=["twice", "case", "normal form", "below a file", "below a link", "link through link", "link loop"],
)
def test_members_that_meet_are_refused(tmp_path: Path, form: str, members: list[Member]) -> None:
    if form == "zip":
        with pytest.warns(UserWarning) if members[0].name == members[-1].name else _nothing():
            data = zipped(members)
    else:
        data = FORMS[form](members)
    check_refused(tmp_path, data)


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize("form", TARS)
@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"?"])
def test_devices_and_pipes_are_refused(tmp_path: Path, form: str, kind: bytes) -> None:
    check_refused(tmp_path, FORMS[form]([Member("first"), Member("odd", kind=kind)]))


@pytest.mark.parametrize("mode", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_devices_pipes_and_sockets_in_a_zip_are_refused(tmp_path: Path, mode: int) -> None:
    check_refused(tmp_path, with_mode("odd", mode), "no file")


def with_mode(name: str, mode: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("first", b"")
        info = zipfile.ZipInfo(name)
        info.external_attr = (mode | 0o644) << 16
        archive.writestr(info, b"")
    return out.getvalue()


@pytest.mark.parametrize("form", TARS)
@pytest.mark.parametrize("target", ["/etc/hostname", "../../outside", "missing", "../archive.bin", "link"])
def test_hard_links_that_lead_out_are_refused(tmp_path: Path, form: str, target: str) -> None:
    """A zip has none. One to a symbolic link would make that a second time, elsewhere."""
    members = [Member("a"), Member("link", link="a"), Member("d/odd", link=target, kind=tarfile.LNKTYPE)]
    check_refused(tmp_path, FORMS[form](members))


@pytest.mark.parametrize("form", TARS)
def test_hard_links_inside_are_copies(tmp_path: Path, form: str) -> None:
    archive = write(tmp_path, FORMS[form]([Member("a", b"x"), Member("d/b", link="a", kind=tarfile.LNKTYPE)]))
    extract(archive, tmp_path / "target")
    assert (tmp_path / "target/d/b").read_bytes() == b"x"
    assert (tmp_path / "target/a").stat().st_nlink == 1


@pytest.mark.parametrize("form", TARS)
def test_a_sparse_file_is_refused(tmp_path: Path, form: str) -> None:
    """It claims terabytes in a few bytes."""
    check_refused(tmp_path, FORMS[form]([Member("first"), Member("odd", kind=tarfile.GNUTYPE_SPARSE)]))


@pytest.mark.parametrize("form", TARS)
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_what_a_member_says_of_itself_is_bounded(tmp_path: Path, form: str, kind: bytes) -> None:
    """It is read whole, and zeros are packed a thousand times."""
    said = Member("a", bytes(8 * 1024 * 1024), kind=kind)
    check_refused(tmp_path, FORMS[form]([said, Member("b", b"x")]), "says more of itself")


@pytest.mark.parametrize("form", FORMS)
def test_bombs_are_refused(tmp_path: Path, form: str) -> None:
    limits = Limits(ratio=10, ratio_from=100_000)
    members = [Member(f"{n}", bytes(100_000)) for n in range(20)]
    if form == "tar":
        limits = Limits(total=1_000_000)
    check_refused(tmp_path, FORMS[form](members), limits=limits)


@pytest.mark.parametrize("form", ["tgz", "tar.zst"])
def test_what_is_not_extracted_counts_too(tmp_path: Path, form: str) -> None:
    """Padding behind a small file, which tarfile reads over."""
    padded = tarred([Member("a", b"x")]) + bytes(4_000_000) + tarred([Member("b", b"x")])
    data = gzipped(padded) if form == "tgz" else zstandarded(padded)
    check_refused(tmp_path, data, "more comes out", Limits(members=10, ratio=10, ratio_from=1000))


@pytest.mark.parametrize("form", FORMS)
def test_what_there_is_no_room_for_is_no_fault_of_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(archive, "free_space", lambda _folder: 1_050_000)  # type: ignore[reportUnknownLambdaType]
    members = [Member(f"{n}", os.urandom(30_000)) for n in range(3)]
    data = write(tmp_path, FORMS[form](members))
    extract(data, tmp_path / "fits", limits=Limits(margin=960_000))
    with pytest.raises(NotEnoughSpace):
        extract(data, tmp_path / "target", limits=Limits(margin=960_001))


@pytest.mark.parametrize("form", FORMS)
def test_too_many_members_are_refused(tmp_path: Path, form: str) -> None:
    check_refused(tmp_path, FORMS[form]([Member(str(n)) for n in range(11)]), "more than 10", Limits(members=10))


@pytest.mark.parametrize("form", TARS)
def test_the_members_of_a_tar_are_counted_before_many_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(archive, "_MEMBERS_UNCOUNTED", 7)
    data = FORMS[form]([Member(str(n), b"x" * n) for n in range(100)])
    check_refused(tmp_path, data, "it has more than 99 members", Limits(members=99))
    assert len(everything(tmp_path / "a/b/target")) == 7
    told: list[int] = []
    path = tmp_path / "archive.bin"
    assert extract(path, tmp_path / "target", limits=Limits(members=100), advance=told.append) == sum(range(100))
    assert sum(told) == path.stat().st_size
    assert len(everything(tmp_path / "target")) == 100


@pytest.mark.parametrize("form", TARS)
def test_counting_the_members_of_a_tar_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    def stop(count: int) -> None:
        if not count:
            raise Cancelled("enough")

    monkeypatch.setattr(archive, "_MEMBERS_UNCOUNTED", 1)
    path = write(tmp_path, FORMS[form]([Member(str(n), os.urandom(1 << 20)) for n in range(3)]))
    with pytest.raises(Cancelled):
        extract(path, tmp_path / "target", advance=stop)
    assert everything(tmp_path / "target") == {"0"}, "it was stopped before the second member"


@pytest.mark.parametrize("form", TARS)
@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_what_is_no_file_has_no_content(tmp_path: Path, form: str, kind: bytes) -> None:
    """Whether that is content or the next member, programs do not agree."""
    inner = tarred([Member("hidden", b"x")])[:1024]
    data = tarred([Member("a", b"1"), Member("b", inner, kind=kind)])
    check_refused(tmp_path, gzipped(data) if form == "tgz" else data, "no file has content")


@pytest.mark.parametrize("fact", ["path", "linkpath", "size"])
def test_facts_that_can_be_so_of_one_member_alone(tmp_path: Path, fact: str) -> None:
    data = tarred([Member("a", b"1"), Member("b", b"2")], of_all={"comment": "x", fact: "1"})
    check_refused(tmp_path, data, "says of all members")


@pytest.mark.parametrize(
    "data",
    [
        zipped_by_hand([ZipMember(b"%d" % n) for n in range(11)]),
        zipped_by_hand([ZipMember(b"%d" % n) for n in range(11)], zip64=True),
        zipped_by_hand([ZipMember(b"%d" % n) for n in range(11)], count=1),
        zipped_by_hand([ZipMember(b"%d" % n) for n in range(11)], count=1, zip64=True),
        zipped_by_hand([ZipMember(b"1")], count=11),
        zipped_by_hand([ZipMember(b"1")], count=1 << 60, zip64=True),
    ],
    ids=["told", "told by zip64", "less told", "less told by zip64", "only told", "only told by zip64"],
)
def test_a_zip_of_too_many_members_is_refused_before_anything_is_written(tmp_path: Path, data: bytes) -> None:
    """Whatever it says of their number."""
    check_refused(tmp_path, data, "it has more than 10 members", Limits(members=10))
    assert everything(tmp_path / "a/b/target") == set()


@pytest.mark.parametrize(("count", "zip64"), [(1, False), (3, False), (1, True), (3, True), (2 + 65536, True)])
def test_a_zip_with_another_number_of_members_than_it_says_is_refused(
    tmp_path: Path, count: int, *, zip64: bool
) -> None:
    members = [ZipMember(b"a"), ZipMember(b"b")]
    check_refused(tmp_path, zipped_by_hand(members, count=count, zip64=zip64), "another number of members")


@pytest.mark.parametrize("number", [0, 1, 65_535, 65_536, 65_538])
@pytest.mark.parametrize("zip64", [False, True])
def test_numbers_of_members_that_need_more_than_sixteen_bits(number: int, *, zip64: bool) -> None:
    """Without ZIP64 only their lower half is told."""
    data = zipped_by_hand((ZipMember(b"%d" % n) for n in range(number)), zip64=zip64)
    members = ZipArchive(io.BytesIO(data), 100_000).members()
    assert [member.name for member in members] == [str(n) for n in range(number)]


HIGH = bytes(range(0x80, 0x100))


@pytest.mark.parametrize(
    ("member", "name"),
    [
        (ZipMember(b"gr\x81n.txt"), "grün.txt"),
        (ZipMember(HIGH[:64]), HIGH[:64].decode("cp437")),
        (ZipMember(HIGH[64:]), HIGH[64:].decode("cp437")),
        (ZipMember("grün.txt".encode()), "gr├╝n.txt"),
        (ZipMember("grün.txt".encode(), flags=1 << 11), "grün.txt"),
        (ZipMember(b"gr?n", extra=unicode_path("grün", b"gr?n")), "grün"),
        (ZipMember(b"gr\x81n", extra=unicode_path("other", b"before")), "grün"),
        (ZipMember(b"gr\x81n", extra=unicode_path("", b"gr\x81n")), "grün"),
        (ZipMember(b"gr\x81n", extra=unicode_path("cut", b"gr\x81n")[:-1]), "grün"),
        (ZipMember(b"plain", flags=1 << 11, extra=unicode_path("other", b"plain")), "plain"),
        (ZipMember(b"a/b.txt\0.exe"), "a/b.txt"),
    ],
    ids=[
        "437",
        "half of 437",
        "other half",
        "no flag",
        "flag",
        "repeated",
        "of another",
        "empty",
        "cut",
        "flag and repeated",
        "NUL",
    ],
)
def test_names_in_a_zip_are_read_as_the_format_says(tmp_path: Path, member: ZipMember, name: str) -> None:
    extract(write(tmp_path, zipped_by_hand([member])), tmp_path / "target")
    assert (tmp_path / "target" / name).is_file()


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([ZipMember(b"a\xff", flags=1 << 11)], "not well-formed text"),
        ([ZipMember(b"gr?n", extra=unicode_path("../out", b"gr?n"))], "plain folder names"),
        ([ZipMember(b"gr?n", extra=unicode_path("\x01", b"gr?n"))], "control characters"),
        ([ZipMember(b"\x81"), ZipMember("ü".encode(), flags=1 << 11)], "two members of one name"),
        ([ZipMember(b"a", head=b"b")], "another name than in the list"),
        ([ZipMember(b"a", b"x" * 99), ZipMember(b"a", at=0)], "two members of one name"),
        ([ZipMember(b"a", method=12)], "unusual way"),
        ([ZipMember(b"a", b"\xff" * 9, method=0), ZipMember(b"b", at=1 << 31)], "not where it should be"),
        ([ZipMember(b"a", mode=stat.S_IFLNK | 0o777, data=b"\xff")], "not well-formed text"),
        ([ZipMember(b"a", mode=stat.S_IFLNK | 0o777, data=b"b" * 2_000_000, claimed=9)], "longer than it says"),
        ([ZipMember(b"a", mode=stat.S_IFLNK | 0o777, data=b"b", claimed=9)], "ends too early"),
        ([ZipMember(b"a", b"x" * 9, claimed=8)], "longer than it says"),
        ([ZipMember(b"a", b"x" * 9, claimed=10)], "ends too early"),
    ],
)
def test_what_a_zip_cannot_mean_is_refused(tmp_path: Path, members: list[ZipMember], says: str) -> None:
    check_refused(tmp_path, zipped_by_hand(members), says)


def test_members_of_a_zip_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """As in bombs that grow with the square of their size: one member's bytes hold the next one's head."""
    inner = zipped_by_hand([ZipMember(b"b", bytes(999))])
    inside = inner[: inner.index(b"PK\1\2")]
    outer = ZipMember(b"a", inside, method=0)
    data = bytearray(zipped_by_hand([outer, ZipMember(b"b", bytes(999), at=30 + len(outer.name))]))
    check_refused(tmp_path, bytes(data), "overlap")


@pytest.mark.parametrize("before", [0, 10, 60])
def test_an_end_of_zip64_without_a_beginning_is_damage(tmp_path: Path, before: int) -> None:
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    check_refused(tmp_path, b"PK\3\4" + bytes(before) + b"PK\6\7" + bytes(16) + end)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
def test_damaged_archives_are_refused(tmp_path: Path, form: str, cut: float) -> None:
    members = [Member(f"{n}.bin", os.urandom(20_000)) for n in range(5)]
    data = FORMS[form](members)
    check_refused(tmp_path, data[: int(len(data) * cut)])


@pytest.mark.parametrize("form", [gzipped, zstandarded, bytes])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_header_is_not_the_end(tmp_path: Path, form: Callable[[bytes], bytes], damage: str) -> None:
    """Packed whole, so that only the header tells. The second member begins in the third block of 512 bytes."""
    data = tarred([Member("a", b"x"), Member("b", b"x"), Member("c", b"x")])
    data = data[:1300] if damage == "cut" else data[:1100] + b"?" + data[1101:]
    check_refused(tmp_path, form(data), "damaged")


def test_a_wrong_bit_in_a_zip_is_noticed(tmp_path: Path) -> None:
    data = bytearray(zipped([Member("a", os.urandom(1000))]))
    data[200] ^= 1
    check_refused(tmp_path, bytes(data))


@pytest.mark.parametrize("data", [b"", b"<!DOCTYPE html>", b"\x7fELF" + bytes(600), b"PK\x03\x04", b"\x1f\x8b", b"PK"])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    check_refused(tmp_path, data)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped([Member("a", b"x")]))
    data[data.find(b"PK\x01\x02") + 8] |= 1
    check_refused(tmp_path, bytes(data), "encrypted")


def test_special_permissions_are_dropped(tmp_path: Path) -> None:
    extract(write(tmp_path, tarred([Member("a", b"x", 0o6777), Member("b", b"x", 0o000)])), tmp_path / "target")
    assert stat.S_IMODE((tmp_path / "target/a").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "target/b").stat().st_mode) == 0o644


def test_unpacking_can_be_stopped(tmp_path: Path) -> None:
    def stop(_count: int) -> None:
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        extract(write(tmp_path, gzipped(tarred(GOOD))), tmp_path / "target", advance=stop)


def test_a_folder_that_exists_is_not_written_into(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(Exception, match="File exists"):
        extract(write(tmp_path, zipped(GOOD)), target)
    assert everything(target) == set()


def test_kinds_are_told_by_the_first_bytes(tmp_path: Path) -> None:
    kinds = {form: form_of(write(tmp_path, make(GOOD))) for form, make in FORMS.items()}
    assert kinds == {"zip": "zip", "tar": "tar", "tgz": "gz", "tar.zst": "zst"}
