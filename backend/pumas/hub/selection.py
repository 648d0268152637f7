"""Which files of a repository make the model that somebody wants, and under which names they may be stored.

Three questions in this order. May the name be used at all (`storage/paths.py` decides; what it refuses is listed, never
followed)? What is the file for (`kinds.py`)? Is it part of the form that was chosen: a quantisation, files by name, or
by default everything that is not the same weights once more? Nothing is fetched here and nothing joins a path.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Final

from pumas.errors import InvalidInput, UnsafePath
from pumas.hub import kinds
from pumas.hub.kinds import Role
from pumas.hub.model import HubFile, HubModel
from pumas.library.formats.quantization import MARKS, parse_quantization, sort_quantizations
from pumas.library.formats.shards import CONFIGURATIONS, PIPELINE_INDEX, detect_sharded_sets
from pumas.storage.paths import display_name, relative_path

# The library keeps files of its own under these names beside a model; a file of the same name would pass for one.
_OURS: Final = frozenset({"metadata.json", "overrides.json"})
_SHOWN: Final = 40


@dataclass(slots=True)
class Choice:
    """What to fetch. `skipped` are the files that no choice takes: helpers, and those of `refused`.

    `quant` is the label that was chosen or that all weights share, or None. `offered` are projectors (`mmproj`) that
    could be named in addition. `refused` gives each unusable name its reason. `total_bytes` sums the files' sizes.
    """

    files: tuple[HubFile, ...]
    skipped: tuple[str, ...]
    quant: str | None
    total_bytes: int
    offered: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def weights(self) -> tuple[HubFile, ...]:
        """The files that hold weights, as the hub orders them."""
        return tuple(file for file in self.files if kinds.format_of(file.path))

    @property
    def pickles(self) -> tuple[str, ...]:
        """Files that can run code when an app loads them."""
        return tuple(file.path for file in self.weights if kinds.extension(file.path) in kinds.PICKLES)


@dataclass(frozen=True, slots=True)
class DownloadOption:
    """One way to take a repository. `kind`: `quant`, `all` (no quant given), `projector` or `file` (by their names).

    `files` are all paths that it fetches, `weights` those with weights, `shards` how many these are; `size_bytes` sums
    them all.
    """

    kind: str
    quant: str | None
    files: tuple[str, ...]
    weights: tuple[str, ...]
    size_bytes: int

    @property
    def shards(self) -> int:
        return len(self.weights)


def choose(model: HubModel, *, quant: str | None = None, filenames: Sequence[str] | None = None) -> Choice:
    """The files for a quantisation, or for names (shell patterns allowed), or for both together; else all that count.

    A quantisation brings the configuration and tokenizer files along; names bring only themselves and the other parts
    of their sets.

    Raises:
        InvalidInput: there is nothing of the kind, or a set on the hub lacks parts; the message lists what there is.
    """
    contents = Contents([file.path for file in model.files], model.repo_id)
    by_path = {file.path: file for file in model.files}
    paths: list[str] = []
    if quant:
        paths += contents.of_quant(quant)
    if filenames:
        paths += contents.of_names(filenames)
    if not quant and not filenames:
        paths = contents.default
    wanted = set(paths)
    chosen = tuple(by_path[path] for path in contents.paths if path in wanted)
    weights = contents.weights_in(file.path for file in chosen)
    _require_complete(weights)
    refused = refusals(model, contents)
    return Choice(
        files=chosen,
        skipped=(*contents.helpers, *refused),
        quant=contents.meant(quant) if quant else contents.common_label(weights),
        total_bytes=sum(file.size for file in chosen),
        offered=tuple(path for path in contents.of_role(Role.PROJECTOR) if path not in wanted),
        refused=refused,
    )


def refusals(model: HubModel, contents: Contents) -> dict[str, str]:
    """Every file of the repository that cannot be used here, as it may be shown, and why."""
    odd = dict.fromkeys(map(shown, model.unusable), "the hub gives no usable size or digest")
    return {**contents.refused, **odd}


def options(model: HubModel) -> list[DownloadOption]:
    """The ways to take the repository, quantisations first and by bits; `[]` when it holds no model file."""
    contents = Contents([file.path for file in model.files], model.repo_id)
    sizes = {file.path: file.size for file in model.files}

    def option(kind: str, quant: str | None, paths: Iterable[str]) -> DownloadOption:
        files = tuple(paths)
        return DownloadOption(kind, quant, files, tuple(contents.weights_in(files)), sum(sizes[path] for path in files))

    if not contents.usable_weights:
        return []
    found = [option("quant", quant, contents.of_quant(quant)) for quant in contents.quants]
    found.append(option("all", None, contents.default))
    found += [option("file", contents.label(paths[0]) or None, paths) for paths in contents.taken_by_name]
    found += [option("projector", contents.label(path) or None, [path]) for path in contents.of_role(Role.PROJECTOR)]
    return found


class Contents:
    """A repository's paths, sorted by what they are for. Knows names alone, so that it serves search results too."""

    def __init__(self, paths: Sequence[str], repo_id: str = "") -> None:
        self.paths, self.refused = usable_paths(paths)
        self.roles = {path: kinds.role(path) for path in self.paths}
        self._of_repo = _repo_label(repo_id)
        self._labels = {path: kinds.label(path) for path in self.paths if self.roles[path] not in _WITHOUT_LABEL}

    def of_role(self, role: Role) -> list[str]:
        return [path for path in self.paths if self.roles[path] is role]

    def label(self, path: str) -> str:
        """What tells the file from its siblings; the repository's name speaks for files whose own say nothing."""
        return self._labels.get(path) or self._of_repo

    def weights_in(self, paths: Iterable[str]) -> list[str]:
        return [path for path in paths if self.roles[path] not in _WITHOUT_LABEL]

    def common_label(self, weights: Iterable[str]) -> str | None:
        """The label that all of them share, projectors aside."""
        labels = {self.label(path) for path in weights if self.roles[path] is not Role.PROJECTOR}
        return (labels.pop() or None) if len(labels) == 1 else None

    @property
    def helpers(self) -> list[str]:
        return self.of_role(Role.HELPER)

    @cached_property
    def usable_weights(self) -> list[str]:
        """Weights of the frameworks that local apps use, or if there are none, those of any other."""
        return self.of_role(Role.WEIGHTS) or self.of_role(Role.FOREIGN)

    @cached_property
    def _labelled_weights(self) -> list[str]:
        return [*self.of_role(Role.WEIGHTS), *self.of_role(Role.FOREIGN)]

    @cached_property
    def formats(self) -> list[str]:
        """The formats that files of the repository really have, sorted."""
        return sorted({name for path in self.paths if (name := kinds.format_of(path))})

    @cached_property
    def quants(self) -> list[str]:
        """The labels that `of_quant` knows, in the usual order."""
        return sort_quantizations({label for path in self._labelled_weights if (label := self.label(path))})

    @cached_property
    def pipeline(self) -> bool:
        """Whether this is a pipeline of diffusers: one folder per component."""
        return PIPELINE_INDEX in self.roles

    @cached_property
    def taken_by_name(self) -> list[list[str]]:
        """Whole models that no quantisation brings alone, as it has no label or shares it; each with all of its parts.

        Beside a pipeline these are checkpoints at the root, the same model once more. Where a configuration tells of
        one model, other weights than GGUF files are parts of it.
        """
        weights = self.of_role(Role.WEIGHTS)
        if self._has_components:
            return [[path] for path in weights if "/" not in path]
        of_one_model = not _OF_ONE_MODEL.isdisjoint(self.roles)
        models: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for path in weights:
            if kinds.extension(path) == "gguf" or not of_one_model:
                models[_set_of(path)].append(path)
        labels = Counter(self.label(paths[0]) for paths in models.values())
        sharing = [paths for paths in models.values() if labels[label := self.label(paths[0])] > 1 or not label]
        return sharing[:_MOST_BY_NAME] if len(models) > 1 else []

    @cached_property
    def _has_components(self) -> bool:
        return self.pipeline and any("/" in path for path in self.of_role(Role.WEIGHTS))

    @cached_property
    def default(self) -> list[str]:
        """Everything, but no weights twice: one container, one framework, and the plain form where there is one.

        Raises:
            InvalidInput: there is no model file.
        """
        weights = self.usable_weights
        if self._has_components:
            weights = [path for path in weights if "/" in path]
        weights = _plain_forms(_one_container(_without_originals(weights)))
        if not weights:
            raise InvalidInput("repo_id", "names a repository without a model file that we know" + self._what_there_is)
        return self._with_companions(weights)

    def of_quant(self, quant: str) -> list[str]:
        """The files of one quantisation and what belongs beside them.

        Raises:
            InvalidInput: there is none of that name; the message lists those that there are.
        """
        wanted = self.meant(quant)
        weights = [path for path in self._labelled_weights if self.label(path) == wanted]
        if not weights:
            raise InvalidInput("quant", f"{quant[:60]!r} is not among what the repository holds{self._what_there_is}")
        if self._has_components:
            weights = self._whole_pipeline(weights)
        return self._with_companions(_one_container(weights))

    def meant(self, quant: str) -> str:
        """The label that a caller's spelling stands for: `Q4_K_M`, `fp16` for `f16`, a `UD-` mix without that mark."""
        known = self.quants
        asked = quant.strip().lower().replace("-", "_")
        parsed = parse_quantization(f"{asked}.gguf")
        spellings = [asked, parsed.label if parsed else asked]
        spellings += [other for text in spellings for old, other in _same(text) if old]
        spellings += [f"{mark}_{text}" for mark in MARKS for text in spellings]
        return next((text for text in spellings if text in known), asked)

    def of_names(self, names: Sequence[str]) -> list[str]:
        """The named files and the other parts of their sets. Raises InvalidInput for a name that fits none."""
        found: set[str] = set()
        for name in dict.fromkeys(names):
            pattern = name.replace("[", "[[]")  # only * and ? stand for others
            matching = [path for path in self.paths if path == name] or [
                path for path in self.paths if fnmatchcase(path, pattern)
            ]
            if not matching:
                why = self.refused.get(shown(name))
                there = f"fits no file of the repository; there is {_listed(map(shown, self._labelled_weights))}"
                raise InvalidInput("filenames", f"{shown(name)[:200]!r} {why or there}")
            found.update(matching)
        sets = {_set_of(path) for path in found if _is_shard(path)}
        return [path for path in self.paths if path in found or (_is_shard(path) and _set_of(path) in sets)]

    def _whole_pipeline(self, weights: list[str]) -> list[str]:
        """A component that does not come in the wanted precision is taken as it is."""
        folders = {kinds.split(path)[0] for path in weights}
        inside = [path for path in weights if "/" in path]
        if not inside:
            return weights
        others = [path for path in self.of_role(Role.WEIGHTS) if "/" in path and kinds.split(path)[0] not in folders]
        return [*inside, *_plain_forms(_one_container(others))]

    def _with_companions(self, weights: list[str]) -> list[str]:
        """Add configuration and tokenizers: those beside chosen weights, and those in folders without any weights."""
        with_weights = {kinds.split(path)[0] for path in self.roles if self.roles[path] in _HOLDS_WEIGHTS}
        chosen = {kinds.split(path)[0] for path in weights} | {""}
        others = with_weights - chosen
        sets = {(kinds.split(path)[0], kinds.base(kinds.split(path)[1]), kinds.extension(path)) for path in weights}
        taken = set(weights)
        for path in self.of_role(Role.COMPANION):
            folder, name = kinds.split(path)
            index = kinds.indexed_set(name)
            if index is not None:
                wanted = (folder, *index) in sets
            else:
                wanted = folder in chosen or others.isdisjoint((folder, *_parents(folder)))
            if wanted:
                taken.add(path)
        return [path for path in self.paths if path in taken]

    @property
    def _what_there_is(self) -> str:
        quants = self.quants
        if quants:
            return f"; there is {_listed(quants)}"
        weights = [*self.usable_weights, *self.of_role(Role.PROJECTOR)]
        return f"; there is {_listed(map(shown, weights))}" if weights else ""


_OF_ONE_MODEL: Final = CONFIGURATIONS | {"adapter_config.json"}
_MOST_BY_NAME: Final = 500
_HOLDS_WEIGHTS: Final = frozenset({Role.WEIGHTS, Role.FOREIGN})
_WITHOUT_LABEL: Final = frozenset({Role.COMPANION, Role.HELPER})


def usable_paths(paths: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """(the paths that may become names here, as given; the others, shown safely -> one clause why not).

    Two names that some file system takes for one (case, composed letters) are both refused after the first, and so is
    a file where another path has a folder.
    """
    good: list[str] = []
    refused: dict[str, str] = {}
    taken: dict[str, str] = {}
    folders: set[str] = set()
    for path in sorted(set(paths)):
        try:
            folded = _folded(relative_path(path, "name"))
        except UnsafePath as error:
            refused[shown(path)] = str(error).removeprefix("name: ")
            continue
        above = _parents(folded)
        if not path.isprintable():
            refused[shown(path)] = "has characters that cannot be seen"
        elif path.rpartition("/")[2].lower() in _OURS:
            refused[shown(path)] = "has the name of a file that the library keeps for itself"
        elif folded in taken or folded in folders or any(folder in taken for folder in above):
            refused[shown(path)] = "is the same name as another file's on some file systems"
        else:
            taken[folded] = path
            folders.update(above)
            good.append(path)
    return good, refused


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def shown(path: str) -> str:
    """A hub's path as it may be shown: well-formed, without control characters, of a bounded length."""
    text = path.encode("utf-8", "backslashreplace").decode()
    return display_name(text)[:300]


def _repo_label(repo_id: str) -> str:
    found = parse_quantization(repo_id.rpartition("/")[2])
    # `q8`-like words alone are too often part of a model's name to speak for files that do not carry them.
    return found.label if found and found.token not in _WEAK else ""


_WEAK: Final = frozenset({"q4", "q8", "f16", "f32"})


def _same(token: str) -> list[tuple[str, str]]:
    """Other spellings of the same storage type, as (matched, spelling)."""
    pairs = (
        ("fp16", "f16"),
        ("f16", "fp16"),
        ("fp32", "f32"),
        ("f32", "fp32"),
        ("float16", "fp16"),
        ("float32", "fp32"),
    )
    return [(old, new) for old, new in pairs if token == old]


def _set_of(path: str) -> tuple[str, str, str]:
    """Equal for the parts of one set: folder, name without its number, extension."""
    return kinds.split(path)[0], kinds.base(path), kinds.extension(path)


def _is_shard(path: str) -> bool:
    name = kinds.split(path)[1]
    return kinds.base(name) != name.lower().rpartition(".")[0]


def _listed(words: Iterable[str]) -> str:
    items = list(words)
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more


# -- weights that are there twice --------------------------------------------------------------------------------------


def _without_originals(weights: list[str]) -> list[str]:
    """Without the publisher's own form (`original/`, `consolidated…`) of weights that are there in the usual one."""
    usual = [path for path in weights if not _is_original(path)]
    covered = any(kinds.extension(path) == "safetensors" for path in usual)
    return usual if covered else weights


def _is_original(path: str) -> bool:
    folder, name = kinds.split(path.lower())
    return folder.split("/")[0] == "original" or name.startswith("consolidated")


def _one_container(weights: list[str]) -> list[str]:
    """Without pickles whose weights the same folder also holds as safetensors."""
    safe = {_twin_key(path) for path in weights if kinds.extension(path) == "safetensors"}
    return [path for path in weights if kinds.extension(path) not in kinds.PICKLES or _twin_key(path) not in safe]


def _twin_key(path: str) -> tuple[str, str]:
    folder, name = kinds.split(path)
    return folder, kinds.twin(name)


def _plain_forms(weights: list[str]) -> list[str]:
    """Without variants (`model.fp16`, `model_q4`) of weights that the same folder holds plainly."""
    beside: dict[tuple[str, str], set[str]] = defaultdict(set)
    for path in weights:
        folder, name = kinds.split(path)
        beside[folder, _family(name)].add(kinds.base(name))

    def is_variant(path: str) -> bool:
        folder, name = kinds.split(path)
        own = kinds.base(name)
        return any(kinds.is_variant_of(own, plain) for plain in _prefixes(own) & beside[folder, _family(name)])

    return [path for path in weights if not is_variant(path)]


def _family(name: str) -> str:
    suffix = kinds.extension(name)
    return "onnx" if suffix == "onnx_data" else suffix


def _prefixes(name: str) -> set[str]:
    return {name[:at] for at in range(1, len(name)) if name[at] in "._-"}


def lacking(weights: Sequence[str]) -> dict[str, str]:
    """The first file of each set that is not whole, as it may be shown, and why nobody can take it."""
    return {
        shown(group.files[0]): f"on the hub, {group.validation.error or 'parts are missing'}"
        for group in detect_sharded_sets(weights).values()
        if not group.validation.complete
    }


def _require_complete(weights: Sequence[str]) -> None:
    for path, reason in lacking(weights).items():
        raise InvalidInput("filenames", f"{path}: {reason}")
