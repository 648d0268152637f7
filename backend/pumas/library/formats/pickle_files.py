"""Pickle files and torch archives: telling them apart, listing names in them, and looking for dangerous imports.

Nothing here loads a pickle. Opcodes are walked with the standard library's `pickletools`; which imports are dangerous
is picklescan's list (its own walk keeps every opcode in memory and can be made to take hours). The scan is a tripwire,
not a wall: a clean report does not make a pickle safe.
"""

from __future__ import annotations

import io
import pickletools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pumas.errors import FileUnavailable, MalformedModelFile
from pumas.zip_records import LOCAL_MAGIC

from .reader import BoundedReader, OpenedFile, open_regular
from .text import one_line
from .zip_directory import Member, first_local_name, read_directory, read_member

if TYPE_CHECKING:
    from picklescan.scanner import ScanResult

_PROTO: Final = 0x80
_HIGHEST_PROTOCOL: Final = 5
_SNIFFED_BYTES: Final = 64 * 1024
_PICKLE_ENDINGS: Final = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin", ".joblib")

_MAX_SCANNED_BYTES: Final = 64 * 1024 * 1024
_MAX_OBJECT_BYTES: Final = 8 * 1024 * 1024
_MAX_OPCODES: Final = 3_000_000
_MAX_GLOBALS: Final = 1_000
_MAX_REPORTED: Final = 50
_SCAN_SECONDS: Final = 2.0
_MAX_NAMES_BYTES: Final = 4 * 1024 * 1024
_NAMES_SECONDS: Final = 0.3
_SNIFF_SECONDS: Final = 0.05
_MAX_MEMO: Final = 200_000
_MAX_NAMES: Final = 20_000
_MAX_TORCH_PICKLES: Final = 8  # a torch file before 1.6 is five pickles in a row

_STRING_OPCODES: Final = frozenset(
    {
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
    }
)
_MEMO_PUTS: Final = frozenset({"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"})
_MEMO_GETS: Final = frozenset({"GET", "BINGET", "LONG_BINGET"})
_UNKNOWN: Final = "unknown"  # what picklescan calls an import whose name is computed
_UNLISTABLE: Final = frozenset("\n \\")


def is_pickle(file: OpenedFile) -> bool:
    """A raw pickle: protocols 2–5 by their mark, 0 and 1 by whether the file's beginning runs as one."""
    head = file.pread(_SNIFFED_BYTES, 0)
    if len(head) >= 2 and head[0] == _PROTO:
        return head[1] <= _HIGHEST_PROTOCOL
    return _runs_as_pickle(head, whole=len(head) == file.size)


def _runs_as_pickle(head: bytes, *, whole: bool) -> bool:
    """Whether `head` is a run of opcodes that each find their operands on the stack and ends as a pickle does.

    Short texts can be valid opcodes by accident, so something that only a pickle has is asked for as well: a stored
    import or a memo entry.
    """
    depth, marks, telling = 0, 0, False
    try:
        for opcode, _, _ in pickletools.genops(io.BytesIO(head)):
            before, after = opcode.stack_before, opcode.stack_after
            if pickletools.markobject in before:
                if not marks:
                    return False
                marks -= 1
                before = []
            if opcode.name == "MARK":
                marks += 1
            if len(before) > depth and not marks:
                return False
            depth = max(0, depth - len(before)) + len(after)
            telling = telling or opcode.name in _MEMO_PUTS or opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL")
            if opcode.name == "STOP":
                return telling
    except Exception:  # whatever pickletools raises, these bytes are not a pickle
        return telling and not whole
    return False


def hides_imports(file: OpenedFile) -> bool:
    """Whether the file, whatever it looks like, would import something by name when it is unpickled."""
    imports: set[tuple[str, str]] = set()
    reader = BoundedReader(file, max_bytes=_MAX_NAMES_BYTES, max_steps=_MAX_OPCODES, seconds=_SNIFF_SECONDS)
    _collect_imports(_Stream(reader), imports)
    return any(
        module.isascii() and module.replace(".", "_").isidentifier() and name.isprintable()
        for module, name in imports
        if _UNKNOWN not in (module, name)
    )


def torch_members(file: OpenedFile) -> list[Member] | None:
    """The pickles inside a torch archive, or None when this ZIP file is something else.

    Raises `MalformedModelFile` for a damaged archive.
    """
    try:
        members = read_directory(file)
    except MalformedModelFile:
        if _is_torch_pickle(first_local_name(file)):
            raise
        return None
    pickles = [member for member in members if member.name.lower().endswith(_PICKLE_ENDINGS)]
    if any(_is_torch_pickle(member.name) for member in members) or _is_torch_pickle(first_local_name(file)):
        return pickles
    return None


def _is_torch_pickle(name: str) -> bool:
    """torch writes `<archive>/data.pkl`, TorchScript also `constants.pkl`; any other pickle is as dangerous."""
    return name.lower().endswith((".pkl", ".pickle"))


def pickled_names(file: OpenedFile, *, seconds: float = _NAMES_SECONDS) -> list[str]:
    """Texts in the main pickle, in order: among them the names of a state dict's tensors. Best effort, bounded."""
    found: list[str] = []
    try:
        for _, stream in _streams(file, _MAX_NAMES_BYTES, seconds):
            for opcode, argument, _ in _opcodes(stream):
                if opcode.name in _STRING_OPCODES and len(argument) <= 512:
                    found.append(str(argument))
                if len(found) >= _MAX_NAMES:
                    return found
    except (MalformedModelFile, _Unreadable):
        pass
    return found


@dataclass(slots=True)
class PickleReport:
    """`scanned` is False when part of the file could not be walked, and `reason` says why.

    `issues` are imports known as dangerous, `unknown` those on no list; both as `module.name`.
    """

    scanned: bool = True
    reason: str = ""
    issues: list[str] = field(default_factory=list[str])
    unknown: list[str] = field(default_factory=list[str])


def scan_pickle(path: str) -> PickleReport:
    """Look through every pickle in the file; raises `FileUnavailable`, never anything because of its contents."""
    with open_regular(path) as file:
        report, imports = PickleReport(), set[tuple[str, str]]()
        try:
            for name, stream in _streams(file, _MAX_SCANNED_BYTES, _SCAN_SECONDS):
                _collect_imports(stream, imports)
                if stream.unfinished:
                    report.scanned, report.reason = False, f"{one_line(name)}: {stream.unfinished}"
        except (MalformedModelFile, _Unreadable) as error:
            report.scanned, report.reason = False, str(error)
        _judge(imports, report)
        return report


class _Unreadable(Exception):
    """A pickle is stored in a way that cannot be walked; the message says which."""


class _Stream:
    """What `pickletools.genops` reads from: bounded in bytes, in the size of one object, and in time."""

    def __init__(self, reader: BoundedReader) -> None:
        self.reader = reader
        self.unfinished = ""

    def read(self, count: int) -> bytes:
        if count > _MAX_OBJECT_BYTES:
            self.unfinished = "holds an object too large to look through"
            return b""
        return self.reader.take(min(count, self.reader.remaining)) if count > 0 else b""

    def readline(self) -> bytes:
        line = bytearray()
        while (byte := self.read(1)) and len(line) < 4096:
            line += byte
            if byte == b"\n":
                break
        return bytes(line)

    def tell(self) -> int:
        return self.reader.pos


def _streams(file: OpenedFile, max_bytes: int, seconds: float) -> Iterator[tuple[str, _Stream]]:
    """Each pickle in the file: the file itself, or the members of a torch archive. `seconds` is for all together."""
    deadline = time.thread_time() + seconds

    def stream(source: OpenedFile) -> _Stream:
        left = deadline - time.thread_time()
        return _Stream(BoundedReader(source, max_bytes=max_bytes, max_steps=_MAX_OPCODES, seconds=left))

    if not file.pread(4, 0).startswith(LOCAL_MAGIC):
        yield file.name, stream(file)
        return
    members = torch_members(file)
    if not members:
        raise _Unreadable(f"{file.name}: no pickle was found in the archive")
    for member in members:
        data = read_member(file, member, _MAX_OBJECT_BYTES)
        if data is None:
            raise _Unreadable(f"{file.name}: a pickle is stored in a way that cannot be looked through")
        found = stream(_InMemory.of(file, data))
        if len(data) >= _MAX_OBJECT_BYTES:
            found.unfinished = "is too large to look through"
        yield member.name, found


class _InMemory(OpenedFile):
    """Bytes that were unpacked from an archive, read like a file."""

    __slots__ = ("data",)
    data: bytes

    @classmethod
    def of(cls, file: OpenedFile, data: bytes) -> _InMemory:
        made = cls(-1, file.name, len(data), file.device, file.inode)
        object.__setattr__(made, "data", data)
        return made

    def pread(self, count: int, offset: int) -> bytes:
        return self.data[offset : offset + count]


def _opcodes(stream: _Stream) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]:
    """The opcodes of up to `_MAX_TORCH_PICKLES` pickles in a row; ends quietly where the bytes stop being a pickle."""
    for number in range(_MAX_TORCH_PICKLES):
        if not stream.reader.remaining:
            return
        try:
            for found in pickletools.genops(stream):  # type: ignore[arg-type]
                stream.reader.spend(1)
                yield found
        except (MalformedModelFile, FileUnavailable) as error:
            stream.unfinished = stream.unfinished or str(error)
            return
        except Exception:  # pickletools raises what it likes; storage data follows the pickles of old torch files
            if number == 0:
                stream.unfinished = stream.unfinished or "does not end as a pickle does"
            return


def _collect_imports(stream: _Stream, imports: set[tuple[str, str]]) -> None:
    """Every `module, name` that the pickle would import, followed through the memo as the unpickler does."""
    memo: dict[int, str] = {}
    last = ("", "")  # the two newest values on the stack, "" for what is not a text
    for opcode, argument, _ in _opcodes(stream):
        name = opcode.name
        if name in _MEMO_PUTS:
            memo[len(memo) if name == "MEMOIZE" else int(argument)] = last[1]
        elif name in ("GLOBAL", "INST"):
            module, _, attribute = str(argument).partition(" ")
            imports.add((module, attribute))
            last = (last[1], "")
        elif name == "STACK_GLOBAL":
            imports.add((last[0] or _UNKNOWN, last[1] or _UNKNOWN))
            last = ("", "")
        elif name in _MEMO_GETS:
            last = (last[1], memo.get(int(argument), ""))
        elif name not in ("PROTO", "FRAME"):
            last = (last[1], str(argument)[:512] if name in _STRING_OPCODES else "")
        if len(imports) >= _MAX_GLOBALS or len(memo) >= _MAX_MEMO:
            stream.unfinished = "holds too much to look through"
            return


def _judge(imports: set[tuple[str, str]], report: PickleReport) -> None:
    """Ask picklescan about the imports, by way of a pickle that has nothing but them."""
    from picklescan.scanner import SafetyLevel, scan_pickle_bytes  # pyright: ignore[reportUnknownVariableType]

    listing = io.BytesIO(b"".join(map(_global_opcode, sorted(imports))) + b".")
    result: ScanResult = scan_pickle_bytes(listing, "imports")
    by_level = {SafetyLevel.Dangerous: report.issues, SafetyLevel.Suspicious: report.unknown}
    for found in result.globals:
        if found.safety in by_level:
            by_level[found.safety].append(one_line(f"{found.module}.{found.name}"))
    for names in by_level.values():
        names.sort()
        del names[_MAX_REPORTED:]


def _global_opcode(found: tuple[str, str]) -> bytes:
    # A name that this form cannot hold would end picklescan's reading, and hide every import that follows.
    module, name = (part if part.isascii() and not _UNLISTABLE & set(part) else _UNKNOWN for part in found)
    return f"c{module}\n{name}\n".encode("ascii")
