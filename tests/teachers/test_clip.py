"""CLIP as a teacher, against the transformers library: towers, class names, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from scholarch.data import load_data
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.transformers.encoder import Encoder
from scholarch.searchspace.transformers.of_teacher import outline_of
from scholarch.teacher import load_teacher
from scholarch.teachers.library import to_library
from scholarch.teachers.timm_import import import_transformers

pytest.importorskip("transformers", reason="the extra text is not installed")

WORDS = ["<s>", "</s>", "<unk>", "a", "photo", "of", "cat", "dog", "sketch", "bull"]
EMBED = 12
TEXT = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "vocab_size": 20,
    "max_position_embeddings": 9,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}


def library(text: dict[str, Any] | None = None) -> Any:
    """A network of the library with weights that no initialisation gives."""
    transformers: Any = import_transformers()
    config = transformers.CLIPConfig(
        text_config=TEXT | (text or {}), vision_config=VISION, projection_dim=EMBED
    )
    with torch.random.fork_rng():
        network = transformers.CLIPModel(config)
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return network.eval()


def tokenizer() -> Any:
    import tokenizers
    from tokenizers import models, pre_tokenizers, processors

    vocabulary = {word: i for i, word in enumerate(WORDS)}
    made = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return made


@pytest.fixture(scope="module")
def network() -> Any:
    return library()


@pytest.fixture(scope="module")
def folder(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the library writes it, with a tokenizer."""
    place = tmp_path_factory.mktemp("clip")
    write(network, place)
    tokenizer().save(str(place / "tokenizer.json"))
    return place


def write(network: Any, place: Path) -> None:
    """``save_pretrained`` without its progress bars."""
    (place / "config.json").write_text(json.dumps(network.config.to_diff_dict(), default=str))
    save_file(
        {k: v.contiguous() for k, v in network.state_dict().items()}, place / "model.safetensors"
    )


def images(count: int = 5) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def ids_of(sentences: list[str]) -> Tensor:
    rows = [encoded.ids for encoded in tokenizer().encode_batch(sentences)]
    longest = max(map(len, rows))
    return torch.tensor([row + [1] * (longest - len(row)) for row in rows])


#: Of logits: 14 times a cosine near 0.2, whose rounding depends on where its tensors lie.
LOGITS = 5e-6


def far(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def test_the_towers_are_the_librarys(network: Any, folder: Path) -> None:
    teacher = load_teacher(folder)
    ids = ids_of(["a photo of a cat", "dog", "a sketch"])
    with torch.no_grad():
        expected = network(input_ids=ids, pixel_values=images())
        found = functional.normalize(teacher.module(images()), dim=1)
        assert far(found, expected.image_embeds) <= 1e-6
        raw = network.get_image_features(pixel_values=images()).pooler_output
        tokens = teacher.module.tokens(images())  # type: ignore[operator]
        assert far(teacher.module.embedding(tokens[:, 0]), raw) <= 1e-6  # type: ignore[operator]
        text = functional.normalize(teacher.module.text.tower(ids), dim=1)  # type: ignore[union-attr, operator]
        assert far(text, expected.text_embeds) <= 1e-6
    assert (teacher.modality, teacher.num_classes, teacher.trained) == ("image", None, True)
    assert (teacher.resize, len(teacher.mean or ())) == (32, 3)
    assert teacher.mean != (0.5, 0.5, 0.5)
    text_only = sum(p.numel() for p in network.text_model.parameters())
    # The text tower is no part of what is compressed; our embedding has a bias of zeros.
    spared = text_only + network.text_projection.weight.numel() + 1
    whole = sum(p.numel() for p in network.parameters())
    patches = VISION["hidden_size"] + EMBED  # biases that the library's layers have not
    assert teacher.params == whole - spared + patches


def test_the_end_of_a_text_in_the_first_configurations() -> None:
    network = library({"eos_token_id": 2})
    teacher = load_teacher(network)
    ids = torch.tensor([[0, 4, 5, 19, 19, 3], [0, 19, 3, 3, 3, 3]])
    with torch.no_grad():
        # Whose end is the highest id, and the first of these.
        expected = network.get_text_features(input_ids=ids[:, :4]).pooler_output
        found = teacher.module.text.tower(ids[:, :4])  # type: ignore[union-attr, operator]
    assert far(found, expected) <= 1e-6


def test_classes_by_their_names(network: Any, folder: Path) -> None:
    names = ["cat", "dog", "bull_dog"]
    ids = ids_of(["a photo of a cat", "a photo of a dog", "a photo of a bull dog"])
    with torch.no_grad():
        expected = network(input_ids=ids, pixel_values=images()).logits_per_image
    teacher = load_teacher(folder, classes=names)
    assert teacher.num_classes == 3
    assert teacher.plan.classifier == "head"
    assert "3 classes by 'a photo of a {}'" in teacher.about
    for other in (teacher, load_teacher(load_teacher(folder), classes=names)):
        with torch.no_grad():
            assert far(other.module(images()), expected) <= LOGITS
        assert other.fingerprint == teacher.fingerprint
    assert load_teacher(folder).fingerprint != teacher.fingerprint
    assert load_teacher(teacher, classes=["cat", "dog"]) is teacher  # has its classes
    # A library's module, and a tokenizer beside.
    given = load_teacher(network)
    with pytest.raises(InvalidInputError, match=r"no tokenizer\.json with it"):
        load_teacher(given, classes=names)


def test_classes_in_the_teachers_name(network: Any, folder: Path, tmp_path: Path) -> None:
    """So that a run that knows its teacher by name has the same one again."""
    named = tmp_path / "names.txt"
    named.write_text("cat\ndog\n\n")
    spec = f"{folder}?classes=cat,dog&prompt=a sketch of a {{}}"
    ids = ids_of(["a sketch of a cat", "a sketch of a dog"])
    with torch.no_grad():
        expected = network(input_ids=ids, pixel_values=images()).logits_per_image
        teacher = load_teacher(spec)
        assert far(teacher.module(images()), expected) <= LOGITS
    assert teacher.name == spec
    assert "by 'a sketch of a {}'" in teacher.about
    plain = load_teacher(folder, classes=["cat", "dog"])
    assert load_teacher(f"{folder}?classes={named}").fingerprint == plain.fingerprint
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    tokenizer().save(str(elsewhere / "tokenizer.json"))
    again = load_teacher(f"{folder}?classes=cat,dog&tokenizer={elsewhere}")
    assert again.fingerprint == plain.fingerprint


def test_classes_of_data(folder: Path, tmp_path: Path) -> None:
    digits = load_data("digits")
    assert load_teacher(folder, classes=digits).num_classes == 10
    # Neither labels nor images: left to embed; who takes what is said elsewhere.
    assert load_teacher(folder, classes=replace(digits, modality="sound")).num_classes is None
    targets = {part: torch.zeros(len(getattr(digits, part).labels), 3).numpy()
               for part in ("train", "val", "test")}  # fmt: skip
    assert load_teacher(folder, classes=digits.relabelled(targets)).num_classes is None
    nameless = load_data({"x_train": digits.train.images[:40], "y_train": digits.train.labels[:40]})
    with pytest.raises(InvalidInputError, match=r"no names of their classes.*\?classes=FILE"):
        load_teacher(folder, classes=nameless)


def test_a_space_is_made_from_the_tower(folder: Path) -> None:
    encoder = load_teacher(folder, classes=["cat", "dog"]).module
    assert isinstance(encoder, Encoder)
    outline = outline_of(encoder, resolution=32)
    assert (outline.dim, outline.depth, outline.heads, outline.head_dim) == (32, 3, 4, 8)
    assert outline.stem == {"patch_size": 8, "stem_norm": 1e-5}
    assert (outline.style["activation"], outline.style["embed"]) == ("quick_gelu", EMBED)
    assert to_library(encoder)[0] is None, "timm has no network that classifies directions"


Change = Callable[[dict[str, Any], dict[str, Tensor]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c, w: c["vision_config"].update(num_attention_heads=5),
            "5 heads do not divide a width of 32",
        ),
        (
            lambda c, w: c["text_config"].update(num_attention_heads=5),
            "5 heads do not divide a width of 24",
        ),
        (
            lambda c, w: c["vision_config"].update(hidden_act="silu"),
            "hidden_act = 'silu'; can be converted with",
        ),
        (lambda c, w: c["vision_config"].update(image_size=[32, 16]), "image_size = "),
        (lambda c, w: c["vision_config"].update(patch_size=64), "patch_size = 64; need at most 32"),
        (lambda c, w: c.update(projection_dim=13), r"its configuration needs \[13, 32\]"),
        (lambda c, w: c.update(text_config=3), "text_config = 3; need a table"),
        (lambda c, w: w.pop("logit_scale"), "no tensor 'logit_scale'"),
        (lambda c, w: w.pop("vision_model.pre_layrnorm.bias"), "pre_layrnorm.bias"),
    ],
)
def test_what_is_refused(folder: Path, tmp_path: Path, change: Change, message: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    change(config, weights)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(InvalidInputError, match=message) as caught:
        load_teacher(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("classes=cat", "classes = 'cat': no such file, and one name alone; need a file"),
        ("classes=", "classes = '': no such file"),
        ("classes=cat,,dog", "need the names of two or more, none empty"),
        ("classes=cat,cat", "classes have 'cat' twice"),
        ("classes=cat,dog&prompt=a photo", r"prompt = 'a photo'; need a sentence with one \{\}"),
        ("classes=missing.txt", "classes = 'missing.txt': no such file"),
        ("classes=" + ",".join(f"{i}" * 40 for i in range(99)) + ",cat,cat", "'cat' twice"),
        ("classes=cat,dog&tokenizer=missing", "no tokenizer.json at missing"),
    ],
)
def test_names_that_will_not_do(folder: Path, query: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        load_teacher(f"{folder}?{query}")
    assert "\n" not in str(caught.value)


def test_tokenizers_that_do_not_fit(network: Any, tmp_path: Path) -> None:
    write(network, tmp_path)
    spec, file = f"{tmp_path}?classes=cat,dog", tmp_path / "tokenizer.json"
    with pytest.raises(InvalidInputError, match=r"no tokenizer\.json at .*save_pretrained"):
        load_teacher(spec)
    file.write_text("{}")
    with pytest.raises(InvalidInputError, match=r"tokenizer\.json cannot be read"):
        load_teacher(spec)
    other = tokenizer()
    other.add_tokens([f"word{i}" for i in range(20)] + ["cat dog"])
    other.save(str(file))
    with pytest.raises(InvalidInputError, match="has tokens up to .*knows 20"):
        load_teacher(f"{tmp_path}?classes=word19,dog")
    endless = tokenizer()
    from tokenizers import processors

    endless.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    endless.save(str(file))
    with pytest.raises(InvalidInputError, match="a text without token 1.*another's"):
        load_teacher(spec)


def test_names_for_a_teacher_of_one_tower() -> None:
    with pytest.raises(InvalidInputError, match="has no text tower"):
        load_teacher("resnet14-digits?classes=cat,dog")
