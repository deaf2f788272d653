"""Students of a CLIP: inherited, searched, distilled by affinities, saved and loaded again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import scholarch
from scholarch.cli import main
from scholarch.data import DataSet, Part, load_data
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.extremes import largest
from scholarch.supernet.distil.distiller import Pair, Shapes, Sides
from scholarch.supernet.distil.factory import create_distiller
from scholarch.teacher import load_teacher
from scholarch.teachers.timm_import import import_transformers

pytest.importorskip("transformers", reason="the extra text is not installed")

SIDE, EMBED = 16, 12
NAMES = ("dark", "light", "mixed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP with random weights and a tokenizer, as the library writes them."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, processors

    place = tmp_path_factory.mktemp("clip")
    transformers: Any = import_transformers()
    sizes = {"intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "hidden_size": 16, "vocab_size": 20, "max_position_embeddings": 9}
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    vision = {**sizes, "hidden_size": 16, "image_size": SIDE, "patch_size": 4}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=EMBED)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = transformers.CLIPModel(config)
        for parameter in network.parameters():
            parameter.data.add_(torch.randn(parameter.shape) * 0.1)
    (place / "config.json").write_text(json.dumps(network.config.to_diff_dict(), default=str))
    save_file(
        {k: v.contiguous() for k, v in network.state_dict().items()}, place / "model.safetensors"
    )
    words = ["<s>", "</s>", "<unk>", "a", "photo", "of", *NAMES]
    made = tokenizers.Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    made.save(str(place / "tokenizer.json"))
    return place


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images, a class each of how bright they are."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, low, high in (("dark", 0, 90), ("light", 160, 256), ("mixed", 0, 256)):
        (root / name).mkdir()
        for i in range(24):
            pixels = rng.integers(low, high, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.detach() - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("how", ["importance", "even"])
def test_the_largest_student_is_the_teacher(folder: Path, pictures: Path, how: str) -> None:
    """Embedding, text classes and all, whatever mean and deviation the student's images have."""
    data = load_data(pictures)
    teacher = load_teacher(folder, classes=data)
    batch = data.batch(8, 0)
    net = scholarch.inherit_supernet(teacher=folder, data=data, how=how)
    assert net.space.name == "vit-from-teacher"
    wanted = teacher.module(teacher.prepare(batch))
    assert distance(net.network(batch.normalised, largest(net.space)), wanted) <= 1e-5
    arch = net.space.sample(1, seed=3)[0]
    with torch.no_grad():
        found = net.network(batch.normalised, arch)
        assert torch.equal(net.network.extract(arch)(batch.normalised), found)


def test_the_largest_student_of_unlabelled_images_embeds(folder: Path, pictures: Path) -> None:
    data = load_data(pictures)
    bare = {p: Part(getattr(data, p).images, np.zeros((len(getattr(data, p).labels), 0), "f4"))
            for p in ("train", "val", "test")}  # fmt: skip
    plain: DataSet = replace(data, num_classes=0, class_names=None, **bare)
    net = scholarch.inherit_supernet(teacher=folder, data=plain, how="even")
    teacher, batch = load_teacher(folder), plain.batch(8, 0)
    wanted = teacher.module(teacher.prepare(batch))
    assert wanted.shape[1] == EMBED
    assert distance(net.network(batch.normalised, largest(net.space)), wanted) <= 1e-5


def test_from_the_command_line(
    folder: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Search, distil by affinities, load again; the names of classes are the data's folders'."""
    run = tmp_path / "run"
    words = ["--data", str(pictures), "--teacher", str(folder)]
    assert main(["search", *words, "--out", str(run), "--evaluations", "4", "--batch-size", "8",
                 "--proxy", "kd-logits", "--max-params", "20k", "--quiet"]) == 0  # fmt: skip
    told = json.loads((run / "run.json").read_text())["settings"]["teacher"]
    assert told["fingerprint"] == load_teacher(folder, classes=load_data(pictures)).fingerprint
    # Without a word of the teacher it is the run's own, which has to be who it was.
    assert main(["distil", str(run), "--distiller", "tinyclip", "--labels", "0", "--epochs", "6",
                 *settings(lr=0.01, evaluations=6)]) == 0  # fmt: skip
    losses = _losses(run / "distil" / "history.csv")
    assert losses[-1] < 0.7 * losses[0]
    student = run / "distil" / "student"
    batch = load_data(pictures).batch(8, 0)
    with torch.no_grad():
        once, again = (load_teacher(student).module(batch.normalised) for _ in range(2))
    assert torch.equal(once, again)
    assert once.shape == (8, 3)
    assert main(["distil", str(run), "--out", str(tmp_path / "kd"), "--epochs", "1", "--init",
                 "teacher", *settings(evaluations=1)]) == 0  # fmt: skip
    net = tmp_path / "net"
    assert main(["inherit", *words, "--out", str(net), "--quiet"]) == 0
    assert main(["search", "--supernet", str(net), "--data", str(pictures), "--out",
                 str(tmp_path / "second"), "--evaluations", "3", "--quiet"]) == 0  # fmt: skip
    capsys.readouterr()


def settings(**given: float) -> list[str]:
    told = {"batch_size": 16, **given}
    return [*(w for k, v in told.items() for w in ("--setting", f"{k}={v}")), "--quiet"]


def _losses(file: Path) -> list[float]:
    head, *rows = [line.split(",") for line in file.read_text().splitlines()]
    return [float(row[head.index("loss")]) for row in rows]


def test_affinities_are_between_both_towers_by_default(folder: Path, pictures: Path) -> None:
    data = load_data(pictures)
    teacher, batch = load_teacher(folder, classes=data), data.batch(8, 0)
    net = scholarch.inherit_supernet(teacher=teacher, data=data, how="even")
    student = load_teacher(net.network.extract(largest(net.space)), mean=data.mean, std=data.std)
    told, own = teacher.observe(batch), student.observe(batch)
    sides = Sides(Shapes.of(own), Shapes.of(told), 8, 0)
    assert sides.teacher.directions
    assert sides.student.directions
    made = create_distiller("tinyclip", sides)
    assert not list(made.parameters()), "the student's embedding is as wide as the teacher's"
    loss = made(Pair(own, told, batch.labels, torch.arange(8), 0.0))
    assert abs(float(loss)) <= 1e-4  # the largest student is the teacher
    plain = load_teacher("resnet14-digits").observe(load_data("digits").batch(8, 0))
    assert not Shapes.of(plain).directions


def test_what_does_not_go_together_is_said(
    folder: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = load_data(pictures)
    np.savez(tmp_path / "plain.npz", x_train=data.train.images, y_train=data.train.labels)
    common = ["search", "--teacher", str(folder), "--batch-size", "8", "--out", str(tmp_path / "a")]
    for words, message in (
        (["--data", str(tmp_path / "plain.npz")], "no names of their classes"),
        (["--data", "tones"], "takes images, data 'tones' is sound"),
    ):
        assert main([*common, *words]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
    named = load_teacher(f"{folder}?classes=dark,light")
    with pytest.raises(InvalidInputError, match="has 2 classes, data .* has 3"):
        scholarch.train_supernet(
            space="vit-from-teacher", data=data, teacher=named, schedule="delayed", epochs=1
        )
