"""What a path that the user wants to import holds: which files make one model, which stay behind and why.

A folder is one model when it says so (a config or index file of its own, or metadata of another library), or when its
weights are one file or one set of shards. A folder of several models is refused with the list of them, so that nobody
gets fifty checkpoints as one model or one as fifty. Files are opened only to see what they are; nothing is changed.
What kind of model it is, and where it goes, is decided in `importing.py`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pumas.errors import CorruptState, FileUnavailable, InvalidInput, NotAModel, SeveralModels, UnsafePath
from pumas.library.entry import is_model_file
from pumas.library.formats.detect import FileFormat, detect_format
from pumas.library.formats.reader import open_regular
from pumas.library.formats.shards import CONFIGURATIONS, ShardGroup, detect_sharded_sets, is_projector
from pumas.library.hashing import Stamp
from pumas.library.metadata import METADATA, OVERRIDES, check_overrides
from pumas.storage import json_file
from pumas.storage.json_file import JsonObject
from pumas.storage.paths import display_name, relative_path, slug

MAX_FILES = 20_000
MAX_DEPTH = 32

# A folder with one of these at its top is a model in itself, whatever lies below.
MODEL_MARKS = re.compile(
    r"(config|model_index|adapter_config|params|modules|genai_config)\.json|.+\.(safetensors|bin)\.index\.json"
)
# What tools leave behind beside models: never part of one.
_JUNK_NAMES = frozenset({"__pycache__", "Thumbs.db", "desktop.ini", f"{METADATA}.bak", f"{OVERRIDES}.bak"})
_UNFINISHED = frozenset({".part", ".partial", ".incomplete", ".crdownload", ".download", ".!qb"})
_JUNK_SUFFIXES = _UNFINISHED | {".lock", ".tmp", ".aria2", ".pumas-tmp"}
# Beside a file that is being written by aria2 or axel. Both give it its full size first, so that it looks whole.
_UNDER_WAY = (".aria2", ".st")
# Files beside weights that need no look inside.
_COMPANIONS = frozenset(
    {".json", ".jsonl", ".txt", ".md", ".yaml", ".yml", ".toml", ".csv", ".html", ".pdf", ".py", ".jinja", ".model"}
    | {".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg", ".mp4", ".wav", ".info", ".spm", ".vocab", ".license"}
)
# A file with such a name that is not what it says (a git LFS pointer, an error page) makes the import fail.
MUST_BE_MODELS = frozenset({".safetensors", ".gguf", ".ckpt", ".pth", ".onnx"})
_SUFFIX_OF = {FileFormat.GGUF: ".gguf", FileFormat.SAFETENSORS: ".safetensors", FileFormat.ONNX: ".onnx"}
_TOO_DEEP = "too deep"
_OF_MANY = re.compile(r"-[0-9]+-of-[0-9]+(\.[^.]+)?$")
_METADATA_KEYS = frozenset({"official_name", "model_type", "hashes", "cleaned_name", "model_id"})


@dataclass(frozen=True, slots=True)
class SourceFile:
    """`found` is the path in the user's folder, `path` the real file behind it, `name` where it goes in the model.

    `format` is None for files that hold no weights.
    """

    found: Path
    path: Path
    name: str
    original_name: str
    stamp: Stamp
    format: FileFormat | None


@dataclass(frozen=True, slots=True)
class Skipped:
    """`path` is relative to the imported folder, or a file name; `reason` is one clause."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """One model's files. `metadata` and `overrides` are those of the library that the folder came from, if any."""

    path: Path
    title: str
    files: tuple[SourceFile, ...]
    skipped: tuple[Skipped, ...]
    metadata: JsonObject = field(default_factory=dict[str, object])
    overrides: JsonObject = field(default_factory=dict[str, object])

    @property
    def weights(self) -> tuple[SourceFile, ...]:
        return tuple(file for file in self.files if file.format is not None)

    @property
    def primary(self) -> SourceFile:
        """The largest file with weights, projectors last: its digest stands for the model."""
        return max(self.weights, key=lambda file: (not is_projector(file.name), file.stamp.size, file.name))

    @property
    def telling(self) -> tuple[SourceFile, ...]:
        """The files from which can be learned what the model is: weights, and configurations that speak of them."""
        return tuple(file for file in self.files if file.format is not None or file.found.name in CONFIGURATIONS)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stamp.size for file in self.files)


def read_source(path: Path) -> Source:
    """Look at a file or folder.

    Raises:
        FileUnavailable: it is no regular file or folder, or something in it cannot be read: no part of a model is left
            out because of an error.
        NotAModel: nothing in it is a model, a file in it is damaged, or a set of shards is not complete.
        SeveralModels: it holds models that have nothing to do with each other.
    """
    try:
        real = Path(os.path.realpath(path, strict=True))
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "not a usable path"
        raise FileUnavailable(display_name(path.name), reason.lower()) from None
    if not os.path.isdir(real):
        return _read_file(path, real)
    if _is_ollama_store(real):
        raise NotAModel(
            f"{display_name(path.name)} is where Ollama keeps its models; scan_model_stores lists them, and "
            "adopt_models takes them in without a copy; nothing was imported."
        )
    snapshot = _snapshot(real)
    return _read_folder(path, real) if snapshot is None else _read_folder(snapshot, snapshot)


def _is_ollama_store(folder: Path) -> bool:
    """Its models are blobs named by their digests, and manifests say what they are: nothing that a folder tells."""
    stores = (folder, folder / "models")
    return any(os.path.isdir(s / "manifests" / "registry.ollama.ai") and os.path.isdir(s / "blobs") for s in stores)


# -- the cache of Hugging Face: models--OWNER--NAME/{blobs,refs,snapshots/COMMIT} -------------------------------------

_CACHED = "models--"


def _snapshot(folder: Path) -> Path | None:
    """Which commit a folder of one repository stands for: that of its branch `main`, else the only one there is."""
    if not folder.name.startswith(_CACHED):
        return None
    try:
        snapshots = sorted(entry.path for entry in os.scandir(folder / "snapshots") if entry.is_dir())
    except OSError:
        return None
    with contextlib.suppress(OSError, ValueError):
        main = os.path.join(folder, "snapshots", (folder / "refs" / "main").read_text()[:100].strip())
        if main in snapshots:
            return Path(main)
    if len(snapshots) > 1:
        raise SeveralModels(display_name(folder.name), list(map(display_name, snapshots)))
    return Path(snapshots[0]) if snapshots else None


def _title(path: Path) -> str:
    """The name of a folder; of a snapshot, which is named by a commit, that of its repository."""
    repository = path.parent.parent.name
    if path.parent.name == "snapshots" and repository.startswith(_CACHED):
        return repository.rpartition("--")[2] or path.name
    return path.name


def _snapshot_around(root: Path, weight: str) -> Path | None:
    """The snapshot below `root` that holds a file."""
    folders = (folder for folder in Path(weight).parents if folder != root and folder.is_relative_to(root))
    return next((folder for folder in folders if _title(folder) != folder.name), None)


def _are_blobs(entry: os.DirEntry[str]) -> bool:
    return entry.name == "blobs" and os.path.basename(os.path.dirname(entry.path)).startswith(_CACHED)


# -- a single file ---------------------------------------------------------------------------------------------------


def _read_file(path: Path, real: Path) -> Source:
    if path.suffix.lower() in _UNFINISHED:
        raise NotAModel(
            f"{display_name(path.name)} is named like a download that is not finished; rename it if it is whole; "
            "nothing was imported."
        )
    parts = _shards_beside(path)
    files = [_source_file(part, part.name) for part in parts]
    for file in files:
        if file.format is None:
            raise _no_model(file)
    _require_complete([str(part) for part in parts])
    title = _OF_MANY.sub("", path.stem) if len(parts) > 1 else path.stem
    files += [_source_file(data, data.name) for data in _data_beside(path)]
    return Source(real, title, tuple(files), ())


def _shards_beside(path: Path) -> list[Path]:
    """The whole set that a file named `…-00002-of-00005.…` belongs to: a part of a model is of no use."""
    if not _OF_MANY.search(path.name):
        return [path]
    try:
        names = [name for name in os.listdir(path.parent) if _OF_MANY.search(name)]
    except OSError:
        return [path]
    groups = detect_sharded_sets([str(path.parent / name) for name in sorted(names)])
    mine = next((group.files for group in groups.values() if str(path) in group.files), [str(path)])
    return [Path(part) for part in mine]


def _data_beside(path: Path) -> list[Path]:
    """Where the weights of an ONNX file lie that are not in it, by the names that exporters give: `model.onnx_data`."""
    if path.suffix.lower() != ".onnx":
        return []
    try:
        names = sorted(name for name in os.listdir(path.parent) if is_onnx_data(name, path.name))
    except OSError as error:  # whether there are any, nobody can say
        raise FileUnavailable(display_name(path.parent.name), os.strerror(error.errno or 0).lower()) from None
    return [path.with_name(name) for name in names if os.path.isfile(path.with_name(name))]


def is_onnx_data(name: str, model: str) -> bool:
    """Whether a file holds weights of the ONNX file `model` beside it."""
    return name.startswith(model) and re.fullmatch(r"[._]data(_[0-9]+)?", name[len(model) :]) is not None


# -- a folder --------------------------------------------------------------------------------------------------------


def _read_folder(path: Path, real: Path) -> Source:
    skipped: list[Skipped] = []
    found = list(_walk(real, "", skipped))
    own = {name for name, _entry in found if name in (METADATA, OVERRIDES)}
    metadata, overrides = _carried(real, own, skipped)
    found = _without_metadata_inside(real, [item for item in found if item[0] not in own], skipped)
    files = _named_files(found, skipped)
    weights = [file for file in files if file.format is not None]
    if not weights:
        for file in files:
            if is_model_file(file.found.name):
                raise _no_model(file)
        depth = f" in its first {MAX_DEPTH} levels" if any(item.reason == _TOO_DEEP for item in skipped) else ""
        raise NotAModel(f"{display_name(path.name)} holds no model file that we know{depth}; nothing was imported.")
    if not metadata and not any(MODEL_MARKS.fullmatch(name) for name, _entry in found):
        inner = _only_marked(real, weights)
        if inner is not None:
            return _read_folder(inner, inner)
    _require_complete([str(file.found) for file in weights])
    return Source(real, _title(path) or real.name, tuple(files), tuple(skipped), metadata, overrides)


def _walk(folder: Path, prefix: str, skipped: list[Skipped]) -> Iterator[tuple[str, Path]]:
    """(relative name, path) of each file that may belong to the model, sorted, with a bound on depth and number."""
    pending = [(folder, prefix, 0)]
    count = 0
    while pending:
        current, prefix, depth = pending.pop()
        try:
            with os.scandir(current) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise FileUnavailable(
                display_name(prefix.rstrip("/") or current.name), os.strerror(error.errno or 0).lower()
            ) from None
        for entry in listed:
            count += 1
            if count > MAX_FILES:
                raise NotAModel(
                    f"{display_name(folder.name)} holds more than {MAX_FILES:,} files; import a folder inside it."
                )
            name = prefix + entry.name
            try:
                reason = _why_not(entry, depth)
            except OSError as error:
                raise FileUnavailable(display_name(name), os.strerror(error.errno or 0).lower()) from None
            if reason:
                skipped.append(Skipped(display_name(name), reason))
            elif entry.is_dir(follow_symlinks=False):
                pending.append((Path(entry.path), f"{name}/", depth + 1))
            else:
                yield name, Path(entry.path)


def is_junk(name: str) -> bool:
    """A file or folder that is hidden or that a tool left behind."""
    return name.startswith(".") or name in _JUNK_NAMES or Path(name).suffix.lower() in _JUNK_SUFFIXES


def _why_not(entry: os.DirEntry[str], depth: int) -> str:
    if entry.name.startswith("."):
        return "hidden"
    if is_junk(entry.name):
        return "left behind by a program, not part of a model"
    if entry.is_symlink() and _leads_nowhere(entry.path):
        return "the link leads nowhere"
    if entry.is_symlink() and entry.is_dir():
        return "a link to a folder is not followed"
    if entry.is_dir(follow_symlinks=False):
        if _are_blobs(entry):
            return "what the snapshots link to"
        return _TOO_DEEP if depth >= MAX_DEPTH else ""
    return "" if entry.is_file() else "not a regular file"


def _leads_nowhere(link: str) -> bool:
    try:
        os.stat(link)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return True
        raise
    return False


def _named_files(found: Sequence[tuple[str, Path]], skipped: list[Skipped]) -> list[SourceFile]:
    files: list[SourceFile] = []
    taken: set[str] = set()
    for name, path in found:
        file = _source_file(path, name)
        if file.name in taken:
            skipped.append(Skipped(display_name(name), "another file has the same name once it is cleaned"))
            continue
        taken.add(file.name)
        files.append(file)
    return files


def _without_metadata_inside(
    root: Path, found: Sequence[tuple[str, Path]], skipped: list[Skipped]
) -> list[tuple[str, Path]]:
    """Refuse a folder of models of another library. Any other `metadata.json` would look like a model of ours."""
    nested = [(name, path) for name, path in found if "/" in name and path.name == METADATA]
    models = [str(path.parent) for _name, path in nested if _describes_a_model(path)]
    if models:
        raise SeveralModels(display_name(root.name), sorted(map(display_name, models)))
    skipped += [Skipped(display_name(name), "its name would mark a model of its own") for name, _path in nested]
    return [item for item in found if item not in nested]


def _describes_a_model(path: Path) -> bool:
    try:
        return _is_ours(json_file.parse_object(path))
    except (OSError, ValueError):
        return False


def _is_ours(value: JsonObject) -> bool:
    return len(_METADATA_KEYS & value.keys()) >= 2


def _only_marked(root: Path, weights: Sequence[SourceFile]) -> Path | None:
    """A folder without a mark must hold one file or one set; a projector beside a model belongs to it. With more than
    that it may be a folder around a model: that one is returned, and so is a snapshot of the hub's cache."""
    firsts = [group.files[0] for group in detect_sharded_sets([str(file.found) for file in weights]).values()]
    mains = [first for first in firsts if not is_projector(first)]
    if len(mains) <= 1:
        return _snapshot_around(root, mains[0]) if mains else None
    found = list(dict.fromkeys(_candidate(root, main) for main in mains))
    if len(found) > 1:
        # A projector beside several of them is of none alone: who imports each would not hear that it stayed behind.
        found += [_candidate(root, first) for first in firsts if first not in mains]
        raise SeveralModels(display_name(root.name), list(dict.fromkeys(map(display_name, found))))
    return Path(found[0])


def _candidate(root: Path, weight: str) -> str:
    """The outermost folder below `root` that is marked as one model, else the file itself."""
    folders = [folder for folder in Path(weight).parents if folder != root and folder.is_relative_to(root)]
    for folder in reversed(folders):
        try:
            if any(MODEL_MARKS.fullmatch(name) for name in os.listdir(folder)):
                return str(folder)
        except OSError:
            break
    return weight


def _carried(folder: Path, own: set[str], skipped: list[Skipped]) -> tuple[JsonObject, JsonObject]:
    """What another library of ours knew about the model. A file of that name from elsewhere stays behind."""
    metadata: JsonObject = {}
    overrides: JsonObject = {}
    for name in sorted(own):
        reason = "its place is taken by this library's own file"
        try:
            value = json_file.load(folder / name).value or {}
            if name == METADATA and _is_ours(value):
                metadata, reason = value, "rewritten for this library; what it says about the model was kept"
            elif name == OVERRIDES:
                check_overrides(value)
                overrides, reason = value, "rewritten for this library with the same content"
        except (CorruptState, InvalidInput):
            reason = "damaged"
        skipped.append(Skipped(name, reason))
    return metadata, overrides


# -- both ------------------------------------------------------------------------------------------------------------


def _source_file(found: Path, name: str) -> SourceFile:
    """
    Raises:
        FileUnavailable: cannot be read, or is no regular file.
        NotAModel: it claims to be a model file and is none, or is being downloaded.
    """
    require_downloaded(found, name)
    with open_regular(found) as opened:
        stamp = Stamp.of(os.fstat(opened.fd))
        real = Path(os.path.realpath(found))
    file_format = weights_format(found)
    target = target_name(name, file_format)
    return SourceFile(found, real, target, display_name(name), stamp, file_format)


def require_downloaded(found: Path, name: str) -> None:
    """Raise NotAModel for a file that some program is still writing, as what it keeps beside it says."""
    for suffix in _UNDER_WAY:
        if os.path.lexists(f"{os.fspath(found)}{suffix}"):
            beside = display_name(found.name) + suffix
            raise NotAModel(f"{display_name(name)} is still being downloaded: {beside} is beside it.")


def weights_format(path: Path) -> FileFormat | None:
    """None for what is no model and does not claim to be one. Raises NotAModel for what does."""
    suffix = path.suffix.lower()
    if suffix in _COMPANIONS:
        return None
    detected = detect_format(os.fspath(path))
    if detected.valid:
        return detected.format
    if detected.format is not FileFormat.UNKNOWN or suffix in MUST_BE_MODELS:
        raise NotAModel(f"{detected.error}; nothing was imported.")
    return None


def _no_model(file: SourceFile) -> NotAModel:
    return NotAModel(f"{detect_format(os.fspath(file.found)).error}; nothing was imported.")


def target_name(name: str, file_format: FileFormat | None) -> str:
    """The name in the library: as it is where every supported system can hold it, else cleaned."""
    parts = name.split("/")
    if file_format is not None and not Path(parts[-1]).suffix:
        parts[-1] += _SUFFIX_OF.get(file_format, "")
    return "/".join(_clean(part) for part in parts)


def _clean(part: str) -> str:
    try:
        return relative_path(part)
    except UnsafePath:
        stem, dot, suffix = part.rpartition(".")
        cleaned = slug(stem, "file") if dot else slug(part, "file")
        return f"{cleaned}.{slug(suffix, 'bin')}" if dot else cleaned


def _require_complete(paths: Sequence[str]) -> None:
    for name, group in detect_sharded_sets(paths).items():
        if not group.validation.complete:
            raise NotAModel(f"{display_name(name)}: {group.validation.error}{_numbers(group)}; nothing was imported.")


def _numbers(group: ShardGroup) -> str:
    """Which parts are missing, for who has to find them."""
    missing = list(map(str, group.validation.missing_shards))
    if not missing:
        return ""
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return f" (number {', '.join(missing[:5])}{more})"
