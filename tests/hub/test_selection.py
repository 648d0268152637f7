from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.hub.content import HOSTILE_NAMES
from pumas.errors import InvalidInput
from pumas.hub.model import HubFile, HubModel
from pumas.hub.selection import Contents, choose, options, refusals, usable_paths
from pumas.storage.paths import relative_path


def repo(*paths: str, repo_id: str = "acme/Lumen") -> HubModel:
    """A repository with these files, the first of 1 byte, the second of 2, and so on."""
    files = (HubFile(path, size, "0" * 40, "0" * 64) for size, path in enumerate(paths, 1))
    return HubModel(repo_id, "c" * 40, tuple(files))


def check(model: HubModel, expected: str, *, quant: str | None = None, filenames: Sequence[str] | None = None) -> None:
    """`expected` are the chosen paths, separated by blanks, in any order."""
    choice = choose(model, quant=quant, filenames=filenames)
    assert sorted(file.path for file in choice.files) == sorted(expected.split())
    sizes = {file.path: file.size for file in model.files}
    assert choice.total_bytes == sum(sizes[path] for path in expected.split())


def refuse(model: HubModel, words: str, *, quant: str | None = None, filenames: Sequence[str] | None = None) -> None:
    with pytest.raises(InvalidInput, match=words):
        choose(model, quant=quant, filenames=filenames)


GGUF = repo(
    ".gitattributes", "README.md", "config.json", "imatrix_unsloth.dat", "mmproj-F16.gguf", "mmproj-BF16.gguf",
    "L-Q4_K_M.gguf", "L-Q4_K_S.gguf", "L-UD-Q4_K_XL.gguf", "L-Q8_0.gguf", "L-IQ4_NL.gguf", "L-F16.gguf",
    "BF16/L-BF16-00001-of-00002.gguf", "BF16/L-BF16-00002-of-00002.gguf",
)  # fmt: skip
BF16_SET = "BF16/L-BF16-00001-of-00002.gguf BF16/L-BF16-00002-of-00002.gguf"


@pytest.mark.parametrize(
    ("quant", "weights"),
    [
        ("Q4_K_M", "L-Q4_K_M.gguf"),
        ("q4_k_m", "L-Q4_K_M.gguf"),
        (" q4-k-m ", "L-Q4_K_M.gguf"),
        ("Q4KM", "L-Q4_K_M.gguf"),
        ("Q8_0", "L-Q8_0.gguf"),
        ("IQ4_NL", "L-IQ4_NL.gguf"),
        ("UD-Q4_K_XL", "L-UD-Q4_K_XL.gguf"),
        ("ud_q4_k_xl", "L-UD-Q4_K_XL.gguf"),
        ("Q4_K_XL", "L-UD-Q4_K_XL.gguf"),
        ("F16", "L-F16.gguf"),
        ("fp16", "L-F16.gguf"),
        ("BF16", BF16_SET),
    ],
)
def test_a_quantisation_is_its_files_and_the_configuration(quant: str, weights: str) -> None:
    check(GGUF, f"config.json {weights}", quant=quant)


@pytest.mark.parametrize("quant", ["q4", "q4_k", "Q5_K_M", "nonsense", "*", "../x", "fp32"])
def test_a_quantisation_that_is_not_there_is_refused_with_those_that_are(quant: str) -> None:
    refuse(GGUF, r"there is iq4_nl, q4_k_s, q4_k_m, ud_q4_k_xl, q8_0, bf16, f16$", quant=quant)


def test_what_was_chosen_is_named_and_projectors_are_offered() -> None:
    choice = choose(GGUF, quant="bf16")
    assert choice.quant == "bf16"
    assert choice.offered == ("mmproj-BF16.gguf", "mmproj-F16.gguf")
    assert set(choice.skipped) == {".gitattributes", "README.md", "imatrix_unsloth.dat"}
    assert choice.pickles == ()
    assert {file.path for file in choice.weights} == set(BF16_SET.split())


def test_without_a_choice_all_quantisations_are_taken() -> None:
    every = [file.path for file in GGUF.files if file.path.startswith(("L-", "BF16/"))]
    check(GGUF, " ".join(["config.json", *every]))
    assert choose(GGUF).quant is None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["L-Q8_0.gguf"], "L-Q8_0.gguf"),
        (["L-Q8_0.gguf", "config.json"], "L-Q8_0.gguf config.json"),
        (["L-Q4_K_?.gguf"], "L-Q4_K_M.gguf L-Q4_K_S.gguf"),
        (["mmproj*"], "mmproj-F16.gguf mmproj-BF16.gguf"),
        (["BF16/L-BF16-00002-of-00002.gguf"], BF16_SET),
        (["BF16/*"], BF16_SET),
        (["README.md"], "README.md"),
    ],
)
def test_files_by_name_are_taken_alone_but_whole_sets(names: list[str], expected: str) -> None:
    check(GGUF, expected, filenames=names)


def test_a_quantisation_and_names_add_up() -> None:
    check(GGUF, "config.json L-Q8_0.gguf mmproj-F16.gguf", quant="Q8_0", filenames=["mmproj-F16.gguf"])
    assert choose(GGUF, quant="Q8_0", filenames=["mmproj-F16.gguf"]).quant == "q8_0"


@pytest.mark.parametrize(
    "name", ["L-Q8[_]0.gguf", "nothing.gguf", "l-q8_0.gguf", "L-Q5*", "../L-Q8_0.gguf", "/etc/passwd", ""]
)
def test_a_name_that_fits_nothing_is_refused_with_what_there_is(name: str) -> None:
    refuse(GGUF, r"fits no file of the repository; there is .*L-Q8_0\.gguf", filenames=[name])


def test_a_set_that_lacks_parts_on_the_hub_is_refused() -> None:
    broken = repo("m-Q8_0-00001-of-00003.gguf", "m-Q8_0-00003-of-00003.gguf")
    for ask in ({"quant": "q8_0"}, {"filenames": ["m-Q8_0-00001-of-00003.gguf"]}, {}):
        with pytest.raises(InvalidInput, match="1 of 3 parts"):
            choose(broken, **ask)  # type: ignore[arg-type]


TRANSFORMERS = repo(
    ".gitattributes", "README.md", "LICENSE", "config.json", "generation_config.json", "modeling_lumen.py",
    "tokenizer.json", "tokenizer.model", "merges.txt", "vocab.txt", "chat_template.jinja",
    "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
    "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", "pytorch_model.bin.index.json",
    "tf_model.h5", "flax_model.msgpack", "training_args.bin", "optimizer.pt", "trainer_state.json",
    "original/consolidated.00.pth", "original/params.json", "original/tokenizer.model", "consolidated.safetensors",
    "onnx/config.json", "onnx/model.onnx", "onnx/model.onnx_data", "onnx/model_q4.onnx", "onnx/model_q4.onnx_data",
    "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/pytorch_model.bin", "assets/picture.png",
)  # fmt: skip
COMMON = (
    "LICENSE config.json generation_config.json modeling_lumen.py tokenizer.json tokenizer.model merges.txt vocab.txt "
)
COMMON += "chat_template.jinja 1_Pooling/config.json"


def test_no_weights_are_taken_twice() -> None:
    check(
        TRANSFORMERS,
        f"{COMMON} model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json "
        "2_Dense/config.json 2_Dense/pytorch_model.bin",
    )
    assert choose(TRANSFORMERS).pickles == ("2_Dense/pytorch_model.bin",)


def test_another_framework_is_taken_when_it_is_asked_for() -> None:
    check(TRANSFORMERS, f"{COMMON} onnx/config.json onnx/model_q4.onnx onnx/model_q4.onnx_data", quant="q4")


def test_another_framework_is_taken_when_there_is_nothing_else() -> None:
    check(
        repo("onnx/model.onnx", "onnx/model_fp16.onnx", "onnx/model_quantized.onnx", "config.json", "README.md"),
        "onnx/model.onnx config.json",
    )
    check(repo("onnx/model.onnx", "onnx/model_quantized.onnx"), "onnx/model_quantized.onnx", quant="q8")
    check(repo("onnx/model_int8.onnx", "onnx/model_q4.onnx"), "onnx/model_int8.onnx onnx/model_q4.onnx")


def test_pickles_are_taken_when_there_is_nothing_else() -> None:
    old = repo("config.json", "pytorch_model.bin", "training_args.bin", "README.md")
    check(old, "config.json pytorch_model.bin")
    assert choose(old).pickles == ("pytorch_model.bin",)


def test_weights_with_names_of_their_own_are_not_taken_for_copies() -> None:
    check(repo("a.safetensors", "b.ckpt", "c.pth"), "a.safetensors b.ckpt c.pth")
    check(repo("a.safetensors", "a.ckpt"), "a.safetensors")
    check(repo("x/a.safetensors", "y/a.ckpt"), "x/a.safetensors y/a.ckpt")
    check(repo("lora-8bit.safetensors", "lora.safetensors"), "lora.safetensors")
    check(repo("flux.safetensors", "flux-redux-fp8.safetensors"), "flux.safetensors flux-redux-fp8.safetensors")


PIPELINE = repo(
    "model_index.json", "README.md", "dawn-xl.safetensors", "dawn-xl-offset-lora.safetensors", "picture.png",
    "scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer/merges.txt",
    "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.non_ema.safetensors", "unet/model.onnx",
    "text_encoder/config.json", "text_encoder/model.safetensors", "text_encoder/model.fp16.safetensors",
    "text_encoder/pytorch_model.bin", "text_encoder/flax_model.msgpack",
    "vae/config.json", "vae/diffusion_pytorch_model.safetensors", "vae_decoder/config.json", "vae_decoder/model.onnx",
)  # fmt: skip
AROUND = "model_index.json scheduler/scheduler_config.json tokenizer/vocab.json tokenizer/merges.txt "
AROUND += "unet/config.json text_encoder/config.json vae/config.json vae/diffusion_pytorch_model.safetensors"


def test_a_pipeline_is_taken_in_one_precision() -> None:
    check(PIPELINE, f"{AROUND} unet/diffusion_pytorch_model.safetensors text_encoder/model.safetensors")


def test_a_component_without_the_wanted_precision_is_taken_as_it_is() -> None:
    fp16 = "unet/diffusion_pytorch_model.fp16.safetensors text_encoder/model.fp16.safetensors"
    check(PIPELINE, f"{AROUND} {fp16}", quant="fp16")
    assert choose(PIPELINE, quant="F16").quant == "fp16"


def test_a_pipelines_single_file_is_taken_by_name() -> None:
    check(PIPELINE, "dawn-xl.safetensors", filenames=["dawn-xl.safetensors"])


def test_shards_of_a_variant_have_an_index_of_their_own() -> None:
    sharded = repo(
        "model_index.json", "unet/config.json",
        "unet/m-00001-of-00002.safetensors", "unet/m-00002-of-00002.safetensors", "unet/m.safetensors.index.json",
        "unet/m.fp16-00001-of-00002.safetensors", "unet/m.fp16-00002-of-00002.safetensors",
        "unet/m.fp16.safetensors.index.json", "vae/m.fp16-00001-of-00002.safetensors",
        "vae/m.fp16-00002-of-00002.safetensors", "vae/m.safetensors.index.fp16.json",
    )  # fmt: skip
    plain = "model_index.json unet/config.json unet/m-00001-of-00002.safetensors unet/m-00002-of-00002.safetensors "
    vae = (
        "vae/m.fp16-00001-of-00002.safetensors vae/m.fp16-00002-of-00002.safetensors vae/m.safetensors.index.fp16.json"
    )
    check(sharded, f"{plain} unet/m.safetensors.index.json {vae}")
    check(
        sharded,
        "model_index.json unet/config.json unet/m.fp16-00001-of-00002.safetensors "
        f"unet/m.fp16-00002-of-00002.safetensors unet/m.fp16.safetensors.index.json {vae}",
        quant="fp16",
    )


@pytest.mark.parametrize(
    ("repo_id", "label"),
    [
        ("q/Lumen-AWQ", "awq"),
        ("q/Lumen-GPTQ-Int4", "gptq_4bit"),
        ("q/Lumen-bnb-4bit", "bnb_4bit"),
        ("q/Lumen-FP8-dynamic", "fp8"),
        ("q/Lumen-8bit", "8bit"),
        ("q/Lumen-7B", None),
        ("q/Lumen-Q4", None),
    ],
)
def test_the_repositorys_name_speaks_for_files_that_say_nothing(repo_id: str, label: str | None) -> None:
    model = repo("config.json", "model.safetensors", repo_id=repo_id)
    assert choose(model).quant == label
    if label:
        check(model, "config.json model.safetensors", quant=label)
    assert Contents(["m-Q4_K_M.gguf"], repo_id).quants == ["q4_k_m"]


@pytest.mark.parametrize("paths", [[], ["README.md"], ["config.json"], ["picture.png", "a.csv"], ["mmproj-F16.gguf"]])
def test_a_repository_without_a_model_file_is_refused(paths: list[str]) -> None:
    refuse(repo(*paths), "without a model file")
    assert options(repo(*paths)) == []


# -- options -----------------------------------------------------------------------------------------------------------


def test_each_option_is_what_choosing_it_would_fetch() -> None:
    for model in (GGUF, TRANSFORMERS, PIPELINE):
        for option in options(model):
            if option.kind == "quant":
                choice = choose(model, quant=option.quant)
            elif option.kind == "all":
                choice = choose(model)
            else:
                choice = choose(model, filenames=list(option.files))
            assert option.files == tuple(file.path for file in choice.files)
            assert option.size_bytes == choice.total_bytes
            assert option.weights == tuple(file.path for file in choice.weights)
            assert option.shards == len(option.weights)


def test_the_options_of_each_kind_of_repository() -> None:
    def kinds(model: HubModel) -> list[tuple[str, str | None, int]]:
        return [(option.kind, option.quant, option.shards) for option in options(model)]

    assert kinds(GGUF) == [
        ("quant", "iq4_nl", 1), ("quant", "q4_k_s", 1), ("quant", "q4_k_m", 1), ("quant", "ud_q4_k_xl", 1),
        ("quant", "q8_0", 1), ("quant", "bf16", 2), ("quant", "f16", 1), ("all", None, 8),
        ("projector", "bf16", 1), ("projector", "f16", 1),
    ]  # fmt: skip
    assert kinds(PIPELINE) == [("quant", "fp16", 3), ("all", None, 3), ("file", None, 1), ("file", None, 1)]
    assert kinds(repo("model.safetensors")) == [("all", None, 1)]


def by_name(*paths: str) -> list[tuple[str, ...]]:
    """What is offered by name; each can then be chosen alone."""
    model = repo(*paths)
    found = [option for option in options(model) if option.kind == "file"]
    for option in found:
        check(model, " ".join(option.files), filenames=[option.weights[0]])
    return [option.files for option in found]


def test_models_that_share_a_label_are_offered_by_name() -> None:
    """Quantised for one use beside quantised for another, halves of one model, parts of both."""
    plain, trained = "L-it-Q4_0.gguf", "L-it-qat-Q4_0.gguf"
    assert by_name("config.json", plain, trained, "L-it-Q8_0.gguf") == [(plain,), (trained,)]
    parts = ("Low/L-Q8_0-00001-of-00002.gguf", "Low/L-Q8_0-00002-of-00002.gguf")
    assert by_name("High/L-Q8_0.gguf", *parts, "High/L-Q4_0.gguf") == [("High/L-Q8_0.gguf",), parts]
    assert by_name("L-Q4_K_M.gguf", "L-Q8_0.gguf", "L-Q8_0-imatrix.gguf") == []


def test_models_without_a_label_are_offered_by_name() -> None:
    speech = ("ggml-base.bin", "ggml-base.en.bin")
    assert by_name(*speech, "ggml-large-q5_0.bin") == [(path,) for path in speech]
    assert by_name("L-DQ3_K_M.gguf", "L-Q4_K_M.gguf") == [("L-DQ3_K_M.gguf",)]
    assert by_name("a.safetensors", "b.safetensors") == [("a.safetensors",), ("b.safetensors",)]
    assert by_name("config.json", "a.safetensors", "b.safetensors") == []
    assert by_name("a.safetensors", "README.md") == []


def test_a_small_mix_and_its_larger_brother_are_told_apart() -> None:
    model = repo("IQ2_KL/L-IQ2_KL.gguf", "smol-IQ2_KL/L-smol-IQ2_KL.gguf", "smol-IQ1_KT/L-smol-IQ1_KT.gguf")
    check(model, "IQ2_KL/L-IQ2_KL.gguf", quant="IQ2_KL")
    check(model, "smol-IQ2_KL/L-smol-IQ2_KL.gguf", quant="smol-IQ2_KL")
    check(model, "smol-IQ1_KT/L-smol-IQ1_KT.gguf", quant="IQ1_KT")


# -- names that may not be followed ------------------------------------------------------------------------------------


def test_no_hostile_name_is_ever_chosen() -> None:
    model = repo("good-Q8_0.gguf", *HOSTILE_NAMES)
    for ask in ({}, {"quant": "q8_0"}, {"filenames": ["*"]}):
        choice = choose(model, **ask)  # type: ignore[arg-type]
        assert "good-Q8_0.gguf" in {file.path for file in choice.files}
        assert_safe([file.path for file in choice.files])
        assert len(choice.refused) >= 25
        assert set(choice.refused) <= set(choice.skipped)
        assert all(text.isprintable() for text in choice.skipped)


@pytest.mark.parametrize("name", [name for name in HOSTILE_NAMES if "*" not in name])
def test_a_hostile_name_that_is_asked_for_by_name_is_refused_or_harmless(name: str) -> None:
    try:
        choice = choose(repo("good-Q8_0.gguf", *HOSTILE_NAMES), filenames=[name])
    except InvalidInput as error:
        assert str(error).isprintable()
        return
    assert_safe([file.path for file in choice.files])


def assert_safe(paths: Sequence[str]) -> None:
    for path in paths:
        assert relative_path(path) == path
        assert path.rpartition("/")[2].lower() not in ("metadata.json", "overrides.json")
    folded = [unicodedata.normalize("NFC", path).casefold() for path in paths]
    for one, other in combinations(folded, 2):
        assert one != other
        assert not one.startswith(f"{other}/")
        assert not other.startswith(f"{one}/")


@pytest.mark.parametrize(
    ("paths", "kept"),
    [
        (["A.gguf", "a.gguf"], ["A.gguf"]),
        (["caf\u00e9.gguf", "cafe\u0301.gguf"], ["cafe\u0301.gguf"]),
        (["stra\u00dfe.gguf", "STRASSE.gguf"], ["STRASSE.gguf"]),
        (["a", "a/b.gguf"], ["a"]),
        (["A", "a/b.gguf"], ["A"]),
        (["a/b.gguf", "A/c.gguf"], ["A/c.gguf", "a/b.gguf"]),
        (["metadata.json", "sub/METADATA.json", "overrides.json", "config.json"], ["config.json"]),
        (["x.gguf", "x.gguf"], ["x.gguf"]),
    ],
)
def test_names_that_some_file_system_takes_for_one(paths: list[str], kept: list[str]) -> None:
    good, refused = usable_paths(paths)
    assert good == kept
    assert len(good) + len(refused) == len(set(paths))


PARTS = st.sampled_from(
    ["a", "A", "b", "..", ".", "", "con", "x.gguf", "X.GGUF", "m-Q4_K_M.gguf", "model.safetensors", "pytorch_model.bin",
     "config.json", "metadata.json", "a b", "a\\b", "a:b", "e\u0301", "\u00e9", "\ud800", "x" * 300, "trailing.",
     "model_index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "README.md",
     "mmproj-F16.gguf", "m\x00n", "m\u202en.gguf"]
)  # fmt: skip
PATHS = st.lists(st.lists(PARTS, min_size=1, max_size=4).map("/".join) | st.text(max_size=30), max_size=25)


@given(PATHS)
def test_whatever_the_hub_lists_only_safe_names_are_chosen(paths: list[str]) -> None:
    model = repo(*dict.fromkeys(paths))
    for ask in ({}, {"quant": "Q4_K_M"}, {"filenames": ["*"]}):
        try:
            choice = choose(model, **ask)  # type: ignore[arg-type]
        except InvalidInput as error:
            assert "\n" not in str(error)
            continue
        chosen = [file.path for file in choice.files]
        assert_safe(chosen)
        assert len(set(chosen)) == len(chosen) > 0
        assert choice.total_bytes == sum(file.size for file in choice.files)
        assert not set(chosen) & set(choice.refused)
    for option in options(model) if Contents([file.path for file in model.files]).usable_weights else []:
        assert_safe(option.files)


@given(PATHS, st.text(max_size=20), st.lists(st.text(max_size=20), max_size=3))
def test_whatever_is_asked_for_is_answered_or_refused(paths: list[str], quant: str, names: list[str]) -> None:
    model = repo(*dict.fromkeys(paths))
    try:
        choice = choose(model, quant=quant, filenames=names)
    except InvalidInput:
        return
    assert choice.files
    assert refusals(model, Contents([file.path for file in model.files])) == choice.refused
