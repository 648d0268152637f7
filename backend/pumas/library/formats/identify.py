"""What model a file or a folder holds: type, family, architecture, quantisation, size.

Content decides. A name is asked only to choose between layouts that look alike, or when the content says nothing, and
then a note says so. Neighbours: `detect` reads the container, `families` and `tensor_names` hold the tables,
`quantization` reads names. Knows nothing about where models are kept or what a caller claimed about them.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, Final, cast

from pumas import json_text
from pumas.errors import FileUnavailable, MalformedModelFile, NotAModel

from .detect import Container, FileFormat, SecurityTier, read_container, security_tier, sniff
from .families import UNKNOWN, Kind, ModelType, family_in_text, family_of, kind_of_metadata, type_of
from .ggml import read_ggml
from .gguf import TENSOR_TYPES, GgufHeader
from .onnx import OnnxHeader
from .pickle_files import pickled_names
from .quantization import agree, detect_quantization, gguf_file_type
from .reader import OpenedFile, display_name, open_regular
from .safetensors import SafetensorsHeader
from .shards import CONFIG, PIPELINE_INDEX, ShardGroup, detect_sharded_sets, is_projector
from .tensor_names import TensorNames, kind_of_tensors
from .text import one_line

_MAX_CONFIG_BYTES: Final = 1024 * 1024
_PIPELINE_CORES: Final = ("transformer", "unet", "prior", "decoder")
_PACKED_NAMES: Final = (".qweight", ".quant_state", ".weight_packed", ".absmax", ".qzeros", ".codebooks")
_PACKING_DTYPES: Final = ("U8", "I32", "U32")  # several weights in one element; plain weights are never of these
_STORED_AS: Final = {
    "F32": "fp32",
    "F16": "fp16",
    "BF16": "bf16",
    "F8_E4M3": "fp8_e4m3fn",
    "F8_E5M2": "fp8_e5m2",
    "F64": "fp64",
    "I8": "int8",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Facts about one model; `""` and None mean that the content does not say.

    `parameters` counts weights that were seen, and is None for packed or partial ones. `base_model`, `name`, `repo_url`
    and `license` are what the file claims about itself. `notes` are sentences for a person.
    """

    format: FileFormat
    model_type: ModelType = ModelType.UNKNOWN
    subtype: str = ""
    family: str = ""
    architecture: str = ""
    quantization: str = ""
    parameters: int | None = None
    name: str = ""
    base_model: str = ""
    repo_url: str = ""
    license: str = ""
    security_tier: SecurityTier = SecurityTier.UNKNOWN
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Draft:
    """An identity while it is put together."""

    kind: Kind = UNKNOWN
    quantization: str = ""
    parameters: int | None = None
    claims: dict[str, str] = field(default_factory=dict[str, str])
    notes: list[str] = field(default_factory=list[str])

    def finish(self, file_format: FileFormat) -> Identity:
        model_type, subtype, family, architecture = self.kind
        return Identity(
            file_format,
            model_type,
            subtype,
            one_line(family, 64),
            one_line(architecture, 64),
            self.quantization,
            self.parameters,
            security_tier=security_tier(file_format),
            notes=tuple(self.notes),
            **{key: one_line(value) for key, value in self.claims.items()},
        )


def identify(path: str | os.PathLike[str]) -> Identity:
    """Identify one file. A file of no known format has the format `unknown`.

    Raises `FileUnavailable` when it cannot be read and `MalformedModelFile` when it is damaged, cut short or hostile.
    """
    path = os.fspath(path)
    with open_regular(path) as file:
        container = read_container(file, sniff(file))
        draft = _draft(file, container)
    named = detect_quantization("/".join(PurePath(path).parts[-2:]))
    if named and (not draft.quantization or agree(named, draft.quantization)):
        draft.quantization = named
    elif named:
        draft.notes.append(f"The name says {named}, the content says {draft.quantization}.")
    if container.format is not FileFormat.UNKNOWN:
        _ask_name(path, draft)
    return draft.finish(container.format)


def identify_folder(paths: Sequence[str | os.PathLike[str]]) -> Identity:
    """Identify the model that the files of one folder make up; the largest model file, or its set of shards, decides,
    and a projector only where there is nothing else.

    `config.json` beside it names the architecture where tensors leave it open. Files that cannot be read are passed
    over and noted. One pickle among them, damaged or not, makes the whole folder's tier `pickle`. Raises `NotAModel`
    when none of the files is a model file.
    """
    texts = [os.fspath(path) for path in paths]
    notes: list[str] = []
    found: dict[str, tuple[int, Identity]] = {}
    pickles: list[str] = []
    for path in texts:
        try:
            size, file_format = _size_and_format(path)
            if file_format is FileFormat.PICKLE:
                pickles.append(path)
            if file_format is not FileFormat.UNKNOWN:
                found[path] = size, identify(path)
        except (FileUnavailable, MalformedModelFile) as error:
            notes.append(str(error))
    if not found:
        raise NotAModel(" ".join(notes) or "None of the files is a model file that we know.")
    pipeline = any(PurePath(path).name == PIPELINE_INDEX for path in texts)
    group = _main_group(found, pipeline=pipeline)
    chosen = _merged([found[path][1] for path in group.files], whole=group.validation.complete)
    if group.validation.error:
        notes.append(f"{display_name(group.files[0])}: {group.validation.error}.")
    config = PurePath(group.files[0]).with_name(CONFIG)
    if str(config) in map(str, map(PurePath, texts)):
        chosen = _with_config(chosen, _read_config(str(config)))
    if pipeline:
        chosen = replace(chosen, model_type=ModelType.DIFFUSION, subtype="checkpoints")
    if pickles and chosen.format is not FileFormat.PICKLE:
        notes.append(f"The folder also holds pickle files: {', '.join(map(display_name, pickles[:5]))}.")
    tier = SecurityTier.PICKLE if pickles else chosen.security_tier
    return replace(chosen, security_tier=tier, notes=(*chosen.notes, *notes))


def _main_group(found: Mapping[str, tuple[int, Identity]], *, pipeline: bool) -> ShardGroup:
    """The largest file or set; in a diffusers pipeline a text encoder may be larger than the model that it serves."""
    groups = list(detect_sharded_sets(list(found)).values())
    groups = [group for group in groups if not is_projector(group.files[0])] or groups
    if pipeline:
        cores = [group for group in groups if PurePath(group.files[0]).parent.name in _PIPELINE_CORES]
        groups = cores or groups
    return max(groups, key=lambda group: sum(found[path][0] for path in group.files))


def _size_and_format(path: str) -> tuple[int, FileFormat]:
    with open_regular(path) as file:
        return file.size, sniff(file)


def _merged(members: Sequence[Identity], *, whole: bool) -> Identity:
    """One identity for the parts of a set: what most parts with a type agree on, and the sum of their weights."""
    known = [member for member in members if member.model_type is not ModelType.UNKNOWN]
    facts = Counter((m.model_type, m.subtype, m.family, m.architecture) for m in known)
    first = members[0]
    if facts:
        model_type, subtype, family, architecture = facts.most_common(1)[0][0]
        first = replace(first, model_type=model_type, subtype=subtype, family=family, architecture=architecture)
    counts = [member.parameters for member in members]
    total = sum(count for count in counts if count is not None) if whole and None not in counts else None
    return replace(first, parameters=total)


# --- by container


def _draft(file: OpenedFile, container: Container) -> _Draft:
    header = container.header
    if isinstance(header, GgufHeader):
        return _from_gguf(header, file.size)
    if isinstance(header, SafetensorsHeader):
        return _from_safetensors(header, file.size)
    if isinstance(header, OnnxHeader):
        return _Draft(
            notes=[f"Made by {one_line(header.texts['producer_name'], 64)}."]
            if header.texts.get("producer_name")
            else []
        )
    if container.format is FileFormat.GGML:
        return _from_ggml(file)
    if container.format is FileFormat.PICKLE:
        return _from_pickle(file)
    return _Draft()


def _from_gguf(header: GgufHeader, size: int) -> _Draft:
    architecture = header.text("general.architecture")
    draft = _Draft(_gguf_kind(header, architecture, size), gguf_file_type(header.integer("general.file_type")))
    if not draft.quantization:
        draft.quantization = _commonest_type(header)
    if (header.integer("split.count") or 0) <= 1 and header.tensors:
        draft.parameters = header.parameters
    base = "general.base_model.0."
    draft.claims = {
        "name": header.text("general.name") or header.text("general.basename"),
        "base_model": _repo_id(header.text(base + "repo_url")) or header.text(base + "name"),
        "repo_url": header.text("general.repo_url")
        or header.text("general.source.repo_url")
        or header.text("general.url"),
        "license": header.text("general.license"),
    }
    if header.version == 1:
        draft.notes.append("GGUF version 1; most programs of today refuse it.")
    return draft


def _gguf_kind(header: GgufHeader, architecture: str, size: int) -> Kind:
    role = header.text("general.type")
    family = family_of(architecture)
    tensors = TensorNames([t.name for t in header.tensors], {t.name: t.shape[::-1] for t in header.tensors})
    if architecture in ("clip", "mmproj") or role == "mmproj":
        only_audio = header.metadata.get("clip.has_audio_encoder") is True and not header.metadata.get(
            "clip.has_vision_encoder"
        )
        return Kind(
            ModelType.AUDIO if only_audio else ModelType.VISION, "mmproj", family or "clip", architecture or "clip"
        )
    if role == "adapter" or header.text("adapter.type") == "lora":
        return Kind(
            ModelType.DIFFUSION if type_of(architecture) is ModelType.DIFFUSION else ModelType.LLM,
            "loras",
            family,
            architecture,
        )
    if architecture == "controlvector":
        return Kind(ModelType.LLM, "control_vector", header.text("controlvector.model_hint"), architecture)
    if role == "imatrix" or architecture == "imatrix":
        return Kind(ModelType.UNKNOWN, "imatrix")
    special = type_of(architecture)
    if special is ModelType.DIFFUSION:
        seen = kind_of_tensors(tensors, size)
        subtype = seen.subtype if seen.model_type is special and seen.subtype else "diffusion_models"
        return Kind(special, subtype, family or seen.family, architecture)
    if special:
        return Kind(special, "", family, architecture)
    if architecture == "t5encoder":
        return Kind(ModelType.DIFFUSION, "t5", family, architecture)
    if architecture and (header.integer(f"{architecture}.pooling_type") or 0) > 0:
        return Kind(ModelType.EMBEDDING, "", family, architecture)
    if architecture and (_speaks(header, architecture) or not header.tensors):
        return Kind(ModelType.LLM, "", family, architecture)
    # Programs for images also write files without an architecture, or with one of their own.
    seen = kind_of_tensors(tensors, size)
    if seen.model_type is not ModelType.UNKNOWN:
        return seen._replace(architecture=architecture or seen.architecture)
    return Kind(ModelType.LLM if architecture else ModelType.UNKNOWN, "", family, architecture)


def _speaks(header: GgufHeader, architecture: str) -> bool:
    """Whether the header has what every language model has."""
    keys = ("tokenizer.ggml.model", f"{architecture}.context_length", f"{architecture}.block_count")
    return any(key in header.metadata for key in keys)


def _commonest_type(header: GgufHeader) -> str:
    """The type that most weights are stored in; `""` when there are none."""
    elements: Counter[int] = Counter()
    for tensor in header.tensors:
        if len(tensor.shape) > 1:
            elements[tensor.type] += math.prod(tensor.shape)
    return TENSOR_TYPES.get(elements.most_common(1)[0][0], ("", 0, 0))[0] if elements else ""


def _from_safetensors(header: SafetensorsHeader, size: int) -> _Draft:
    tensors = TensorNames([t.name for t in header.tensors], {t.name: t.shape for t in header.tensors})
    draft = _Draft(_with_metadata(kind_of_tensors(tensors, size), header.metadata))
    integers = sum(header.elements[dtype] for dtype in _PACKING_DTYPES)
    packed = tensors.any(_PACKED_NAMES) or integers > 0.05 * sum(header.elements.values())
    if not packed and draft.kind.subtype != "loras" and header.tensor_count:
        draft.parameters = sum(header.elements.values())
    draft.quantization = "" if packed else _STORED_AS.get(_main_dtype(header), "")
    if packed:
        draft.notes.append("Weights are packed, so they were not counted.")
    if header.trailing:
        draft.notes.append(f"{header.trailing} bytes follow the last tensor; some programs will refuse the file.")
    meta = header.metadata
    draft.claims = {
        "name": meta.get("modelspec.title", "") or meta.get("ss_output_name", ""),
        "base_model": meta.get("ss_sd_model_name", "") or meta.get("base_model", ""),
        "repo_url": meta.get("modelspec.implementation", "")
        if "huggingface.co" in meta.get("modelspec.implementation", "")
        else "",
        "license": meta.get("modelspec.license", "") or meta.get("license", ""),
    }
    return draft


def _main_dtype(header: SafetensorsHeader) -> str:
    return header.elements.most_common(1)[0][0] if header.elements else ""


def _with_metadata(seen: Kind, metadata: dict[str, str]) -> Kind:
    """Trainers' own words fill what the tensors leave open; they never overrule the tensors."""
    told = kind_of_metadata(metadata)
    if told is UNKNOWN or seen.model_type not in (ModelType.UNKNOWN, ModelType.DIFFUSION):
        return seen
    return Kind(
        told.model_type,
        seen.subtype or told.subtype,
        seen.family or told.family,
        seen.architecture if seen.family else told.architecture or seen.architecture,
    )


def _from_ggml(file: OpenedFile) -> _Draft:
    facts = read_ggml(file)
    if facts is None or facts.holds == "session":
        return _Draft(notes=["A saved session of a language model, not a model."])
    if facts.whisper:
        return _Draft(Kind(ModelType.AUDIO, "", "whisper", "whisper"))
    subtype = "loras" if facts.holds == "adapter" else ""
    return _Draft(
        Kind(ModelType.LLM, subtype, "", ""), notes=["A format older than GGUF; most programs of today refuse it."]
    )


def _from_pickle(file: OpenedFile) -> _Draft:
    draft = _Draft(kind_of_tensors(TensorNames(pickled_names(file)), file.size))
    draft.notes.append("A pickle can run code when an app loads it.")
    return draft


# --- names and neighbours


def _ask_name(path: str, draft: _Draft) -> None:
    """Let the name choose a language model's family when the layout is one that several share."""
    kind = draft.kind
    if kind.model_type is ModelType.LLM and not kind.family:
        family = family_in_text(" ".join(PurePath(path).parts[-2:]))
        if family:
            draft.kind = kind._replace(family=family)
            draft.notes.append(f"The family {family} is taken from the name: the content fits several.")


def _repo_id(url: str) -> str:
    """`org/name` of a Hugging Face address, or `""`."""
    rest = url.partition("huggingface.co/")[2].strip("/").split("/")
    return "/".join(rest[:2]) if len(rest) >= 2 else ""


def _read_config(path: str) -> dict[str, Any]:
    """A bounded, forgiving read of transformers' `config.json`; empty when it is not usable."""
    try:
        with open_regular(path) as file:
            raw = file.pread(_MAX_CONFIG_BYTES + 1, 0)
        if len(raw) > _MAX_CONFIG_BYTES:
            return {}
        value: object = json_text.loads(raw)
    except (FileUnavailable, ValueError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _writes_text(config: dict[str, Any]) -> bool:
    """Whether transformers would load the folder as a language model: its class is `...ForCausalLM`."""
    classes = config.get("architectures")
    return isinstance(classes, list) and any(
        isinstance(name, str) and name.endswith("ForCausalLM") for name in cast("list[object]", classes)
    )


def _with_config(identity: Identity, config: dict[str, Any]) -> Identity:
    architecture = one_line(config.get("model_type"), 64)
    if not architecture or identity.format is FileFormat.GGUF:
        return identity
    told = type_of(architecture)
    if identity.model_type is ModelType.UNKNOWN:
        identity = replace(identity, model_type=told or (ModelType.LLM if _writes_text(config) else ModelType.UNKNOWN))
    elif identity.model_type is not (told or ModelType.LLM):
        return identity
    return replace(identity, family=family_of(architecture), architecture=architecture)
