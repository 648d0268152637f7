"""Unpacks archives that nobody has vouched for: zip, tar, tar.gz (tgz) and tar.zst, told apart by their first bytes.

Each member is looked at before it is written, into a folder that was empty. Links are made last, so that nothing is
written through one. What cannot be meant refuses the whole archive; whoever called then throws the folder away.
The filters of `tarfile` are used on top and not relied on: they were passed more than once (CVE-2025-4517,
CVE-2025-4138). Blocks; knows nothing of apps.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tarfile
import unicodedata
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tarfile import HeaderError
from typing import IO, BinaryIO, Protocol, Self, cast

from pumas.errors import InvalidInput, NotEnoughSpace, UnsafeArchive
from pumas.storage.files import disk_errors, free_space
from pumas.storage.paths import Below, contained, relative_path
from pumas.versions.zip_archive import Member, ZipArchive, too_many
from pumas.zip_records import END_MAGIC, LOCAL_MAGIC

FORMS = "zip, tar, tar.gz or tar.zst"
CHUNK = 256 * 1024
_LONGEST_LINK = 1024
# A member's name and further facts of it are read whole; what is read ahead of the next member counts, too.
_LONGEST_HEAD = 2 * 1024 * 1024

# So many are unpacked before the rest is counted: nearly all archives have fewer.
_MEMBERS_UNCOUNTED = 10_000

Advance = Callable[[int], None]
"""Told how many bytes of the archive were read; raises to stop."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`members` counts entries, `total` bytes when unpacked; `ratio` is unpacked to packed, once `ratio_from` bytes are
    out; `margin` bytes stay free on the disk."""

    members: int = 300_000
    total: int = 64 * 1024**3
    ratio: float = 100.0
    ratio_from: int = 256 * 1024 * 1024
    margin: int = 256 * 1024 * 1024


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(slots=True)
class _Links:
    symbolic: dict[Path, str] = field(default_factory=dict[Path, str])
    hard: dict[Path, Path] = field(default_factory=dict[Path, Path])


def form_of(archive: Path) -> str | None:
    """`zip`, `gz`, `zst`, `tar`, or None for what is no archive."""
    with disk_errors("Reading the archive"), open(archive, "rb") as file:
        start = file.read(512)
    if start.startswith((LOCAL_MAGIC, END_MAGIC)):
        return "zip"
    if start.startswith(b"\x1f\x8b"):
        return "gz"
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return "zst"
    return "tar" if start[257:262] == b"ustar" else None


def extract(
    archive: Path, target: Path, *, advance: Advance = lambda _count: None, limits: Limits | None = None
) -> int:
    """Unpack into `target`, which is made with mode 0700 and must not exist. Returns the unpacked bytes.

    Raises:
        UnsafeArchive: damaged, hostile, larger than any limit, or no archive; `target` may hold a part of it.
        DiskError, NotEnoughSpace, ReadOnly; and what `advance` raises.
    """
    form = form_of(archive)
    if form is None:
        raise UnsafeArchive(f"it is no {FORMS}")
    with disk_errors("Unpacking"):
        target.mkdir(mode=0o700)
        size = archive.stat().st_size
    writer = _Writer(target, size, limits or Limits(), advance)
    try:
        with disk_errors("Unpacking"):
            if form == "zip":
                _unzip(archive, writer)
            else:
                _untar(archive, form, writer)
            writer.finish()
    except (tarfile.TarError, zlib.error, EOFError, ValueError) as error:
        raise UnsafeArchive(f"it is damaged: {str(error)[:200] or type(error).__name__}") from None
    except RecursionError as error:  # `tarfile` calls itself for each further head of one member
        raise UnsafeArchive(f"it cannot be read: {str(error)[:200]}") from None
    return writer.written


_OF_MACOS = ("__MACOSX", "._", ".DS_Store")
"""What its archivers put beside the files that were to be packed."""


def single_folder(folder: Path) -> Path:
    """The only folder inside `folder` when there is nothing of anybody's beside it, else `folder` itself."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(_OF_MACOS)]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() and not entries[0].is_symlink() else folder


class _Writer:
    """Writes members below one folder and keeps count."""

    def __init__(self, target: Path, packed: int, limits: Limits, advance: Advance) -> None:
        self.target, self.limits, self.advance = target, limits, advance
        self.written = 0
        self._packed = max(1, packed)
        self._room = max(0, free_space(target) - limits.margin)
        self._seen: dict[str, bool] = {}
        self._links = _Links()
        self._count = 0
        self._below = Below(target)
        self._made = {target}

    def place(self, name: str, *, folder: bool) -> Path | None:
        """Where a member goes; None for the top folder itself."""
        self._count += 1
        if self._count > self.limits.members:
            raise too_many(self.limits.members)
        _require_text(name)
        plain = name.rstrip("/") if folder else name
        plain = plain.removeprefix("./")
        if folder and plain in ("", "."):
            return None
        try:
            path = self._below.path(plain, "member")
        except InvalidInput as error:
            raise UnsafeArchive(str(error), plain) from None
        self._claim(plain, folder)
        return path

    def _claim(self, name: str, folder: bool) -> None:
        """No two members may be one file, on no file system; and nothing lies below a file."""
        parts = name.split("/")
        for end in range(1, len(parts)):
            if not self._seen.setdefault(_folded("/".join(parts[:end])), True):
                raise UnsafeArchive("a member lies below a file", name)
        key = _folded(name)
        if key in self._seen and not (folder and self._seen[key]):
            raise UnsafeArchive("it has two members of one name", name)
        self._seen[key] = folder

    def folder(self, name: str) -> None:
        path = self.place(name, folder=True)
        if path is not None:
            self._make(path)

    def _make(self, path: Path) -> None:
        if path not in self._made:
            path.mkdir(parents=True, exist_ok=True)
            self._made.add(path)

    def file(self, name: str, source: _Readable, size: int, mode: int) -> None:
        path = self.place(name, folder=False)
        assert path is not None
        self._require_room(size)
        self._make(path.parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(path, flags, 0o600), "wb") as out:
            for data in _parts(source, size, name):
                out.write(data)
                self.count(len(data))
        path.chmod(0o755 if mode & 0o111 else 0o644)

    def link(self, name: str, target: str) -> None:
        path = self.place(name, folder=False)
        assert path is not None
        _require_text(target)
        if not target or len(target) > _LONGEST_LINK or target.startswith("/") or "\\" in target or "\0" in target:
            raise UnsafeArchive("a link leads elsewhere", name)
        self._links.symbolic[path] = target

    def hard_link(self, name: str, target: str) -> None:
        path = self.place(name, folder=False)
        assert path is not None
        try:
            source = contained(self.target, target.removeprefix("./"), "member")
        except InvalidInput:
            raise UnsafeArchive("a link leads elsewhere", name) from None
        self._links.hard[path] = source

    def count(self, size: int) -> None:
        self.written += size
        if self.written > self.limits.ratio_from and self.written > self.limits.ratio * self._packed:
            raise UnsafeArchive(f"it grows more than {self.limits.ratio:.0f} times when unpacked")
        self._require_room(0)

    def _require_room(self, size: int) -> None:
        whole = self.written + size
        if whole > self.limits.total:
            raise UnsafeArchive(f"it holds more than {self.limits.total:,} bytes")
        if whole > self._room:
            raise NotEnoughSpace(whole + self.limits.margin, self._room + self.limits.margin)

    def finish(self) -> None:
        """Make the links, now that nothing is written any more, and see where they really lead."""
        for path, source in self._links.hard.items():
            if source.is_symlink() or not source.is_file():
                raise UnsafeArchive("a hard link leads to no file", path.name)
            self._make(path.parent)
            with contextlib.suppress(FileExistsError):
                shutil.copy2(source, path, follow_symlinks=False)
                self.count(path.stat().st_size)
        for path, target in self._links.symbolic.items():
            self._make(path.parent)
            os.symlink(target, path)
        root = Path(os.path.realpath(self.target))
        for path in self._links.symbolic:
            real = Path(os.path.realpath(path))
            if not real.is_relative_to(root) or real == root:
                raise UnsafeArchive("a link leads elsewhere", path.name)


def _require_text(name: str) -> None:
    """Names that are not UTF-8 come with surrogates in them."""
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode("utf-8", "replace")
        raise UnsafeArchive("a name is not well-formed text", shown) from None


def _parts(source: _Readable, size: int, name: str) -> Iterator[bytes]:
    """All of a member, which must be as long as it says."""
    left = size
    while left:
        data = source.read(min(CHUNK, left))
        if not data:
            raise UnsafeArchive("a member ends too early", name)
        yield data
        left -= len(data)
    if source.read(1):
        raise UnsafeArchive("a member is longer than it says", name)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


# -- zip ---------------------------------------------------------------------------------------------------------------


def _unzip(archive: Path, writer: _Writer) -> None:
    with open(archive, "rb") as file:
        packed = ZipArchive(file, writer.limits.members)
        for member in packed.members():
            _unzip_member(packed, member, writer)
            writer.advance(member.packed)


def _unzip_member(packed: ZipArchive, member: Member, writer: _Writer) -> None:
    if member.is_encrypted:
        raise UnsafeArchive("a member is encrypted", member.name)
    if member.is_folder:
        writer.folder(member.name)
    elif stat.S_ISLNK(member.mode):
        writer.link(member.name, _link_target(packed, member))
    elif stat.S_IFMT(member.mode) in (0, stat.S_IFREG):
        writer.file(member.name, packed.content(member), member.size, member.mode)
    else:
        raise UnsafeArchive("a member is no file, folder or link", member.name)


def _link_target(packed: ZipArchive, member: Member) -> str:
    if member.size > _LONGEST_LINK:
        raise UnsafeArchive("a link leads elsewhere", member.name)
    return os.fsdecode(b"".join(_parts(packed.content(member), member.size, member.name)))


# -- tar ---------------------------------------------------------------------------------------------------------------


class _Counted(io.RawIOBase):
    """A decompressed stream that ends with an error when too much comes out, whatever `tarfile` does with it.

    `head` is how much may still come before the next member begins; None inside a member.
    """

    def __init__(self, source: IO[bytes], most: int) -> None:
        self._source = source
        self._left = most
        self.head: int | None = _LONGEST_HEAD

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(cast(bytearray, buffer))
        data = self._source.read(len(view))
        self._left -= len(data)
        if self._left < 0:
            raise UnsafeArchive("more comes out of it than its size allows")
        if self.head is not None:
            self.head -= len(data)
            if self.head < 0:
                raise UnsafeArchive("a member says more of itself than any real one")
        view[: len(data)] = data
        return len(data)


class _Progress(io.RawIOBase):
    """The packed file, telling what is read of it."""

    def __init__(self, file: BinaryIO, advance: Advance) -> None:
        self._file, self._advance = file, advance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(cast(bytearray, buffer))
        data = self._file.read(len(view))
        view[: len(data)] = data
        self._advance(len(data))
        return len(data)


@contextlib.contextmanager
def _decompressed(archive: Path, form: str, advance: Advance) -> Generator[IO[bytes]]:
    with open(archive, "rb") as file:
        packed = io.BufferedReader(_Progress(file, advance), CHUNK)
        if form == "gz":
            import gzip

            try:
                with gzip.GzipFile(fileobj=packed) as unpacked:
                    yield cast(IO[bytes], unpacked)
            except gzip.BadGzipFile as error:  # an OSError, which would look like the disk's
                raise UnsafeArchive(f"it is damaged: {error}") from None
        elif form == "zst":
            import zstandard

            # A frame may ask for a window of up to 2 GiB; no archive needs more than 128 MiB.
            decompressor = zstandard.ZstdDecompressor(max_window_size=128 * 1024 * 1024)
            try:
                with decompressor.stream_reader(packed, read_across_frames=True) as unpacked:
                    yield cast(IO[bytes], unpacked)
            except zstandard.ZstdError as error:
                raise UnsafeArchive(f"it is damaged: {error}") from None
        else:
            yield cast(IO[bytes], packed)


def _untar(archive: Path, form: str, writer: _Writer) -> None:
    limits = writer.limits
    with _tar(archive, form, limits, writer.advance) as (file, counted, stream):
        for number, member in enumerate(_members(file, counted)):
            if number == _MEMBERS_UNCOUNTED:
                _require_few_members(archive, form, writer)
            _untar_member(file, member, writer)
        # To the very end: only there a gzip file says whether it is whole.
        while stream.read(CHUNK):
            continue


def _require_few_members(archive: Path, form: str, writer: _Writer) -> None:
    """Making files takes far longer than reading what they are called, and a tar has no list of its members."""
    # What is read twice counts once, but it can be stopped both times.
    with _tar(archive, form, writer.limits, lambda _count: writer.advance(0)) as (file, counted, _stream):
        for number, _ in enumerate(_members(file, counted)):
            if number >= writer.limits.members:
                raise too_many(writer.limits.members)


@contextlib.contextmanager
def _tar(
    archive: Path, form: str, limits: Limits, advance: Advance
) -> Generator[tuple[tarfile.TarFile, _Counted, IO[bytes]]]:
    most = max(limits.ratio_from, int(limits.ratio * archive.stat().st_size)) + 1024 * limits.members
    with _decompressed(archive, form, advance) as source:
        counted = _Counted(source, most)
        stream = io.BufferedReader(counted, CHUNK)
        with tarfile.open(fileobj=stream, mode="r|", errorlevel=2, tarinfo=_Member) as file:
            yield file, counted, stream


# What a global header says is true of all members that follow: a remark, mostly.
_NEVER_COMMON = frozenset(("path", "linkpath", "size"))
_DAMAGED = ("TruncatedHeaderError", "InvalidHeaderError")
"""What is no end of an archive; other `HeaderError`s are. Type checkers do not know these names."""


class _Member(tarfile.TarInfo):
    """`tarfile` takes a damaged header behind the first for the end of the archive: what follows would be missing."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except HeaderError as error:
            if type(error).__name__ in _DAMAGED:
                raise UnsafeArchive(f"it is damaged: {error}") from None
            raise


def _members(file: tarfile.TarFile, counted: _Counted) -> Iterator[tarfile.TarInfo]:
    while True:
        counted.head = _LONGEST_HEAD
        member = file.next()
        counted.head = None
        if member is None:
            return
        if not _NEVER_COMMON.isdisjoint(file.pax_headers):
            raise UnsafeArchive("it says of all members what can be so of one")
        yield member
        # The list of members that it keeps for itself would grow with the archive.
        file.members.clear()  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]


def _untar_member(file: tarfile.TarFile, member: tarfile.TarInfo, writer: _Writer) -> None:
    if not (member.isdir() or member.issym() or member.islnk() or (member.isreg() and not member.issparse())):
        raise UnsafeArchive("a member is no file, folder or link", member.name)
    if member.size and not member.isreg():
        # Some programs read no content behind folders and links, whatever size they tell, and others do.
        raise UnsafeArchive("a member that is no file has content", member.name)
    _filtered(member, writer.target)
    if member.isdir():
        writer.folder(member.name)
    elif member.issym():
        writer.link(member.name, member.linkname)
    elif member.islnk():
        writer.hard_link(member.name, member.linkname)
    else:
        source = file.extractfile(member)
        assert source is not None
        writer.file(member.name, source, member.size, member.mode)


def _filtered(member: tarfile.TarInfo, target: Path) -> None:
    check = getattr(tarfile, "data_filter", None)
    if check is not None:
        try:
            check(member, str(target))
        except tarfile.FilterError as error:
            # Its words name a folder of ours.
            reason = "a link leads elsewhere" if member.issym() or member.islnk() else _wrong_with(member.name)
            raise UnsafeArchive(reason or str(error)[:200], member.name) from None


def _wrong_with(name: str) -> str:
    try:
        relative_path(name, "member")
    except InvalidInput as error:
        return str(error)
    return ""
