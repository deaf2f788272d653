"""Distillers of Transformers' layers on the one trainer, and what they read of real networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scholarch.datasets.dataset import DataSet
from scholarch.proxies.teacher import Teacher
from scholarch.proxies.token_reader import TokenReader, attention_layers
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import SearchSpace
from scholarch.searchspace.transformers.encoder import Encoder
from scholarch.searchspace.transformers.style import EncoderShape, EncoderStyle, LayerShape
from scholarch.searchspace.transformers.text_stem import TextStemSpec
from scholarch.supernet.checkpoint import restore, save_checkpoint
from scholarch.supernet.distil.settings import DistilSettings
from scholarch.supernet.distil.trainer import StudentTrainer
from scholarch.teacher import load_teacher
from scholarch.teachers.timm_import import import_timm
from scholarch.testing import schedule_suite


@pytest.fixture(scope="module")
def data() -> DataSet:
    return schedule_suite.data()


@pytest.fixture(scope="module")
def space(data: DataSet) -> SearchSpace:
    size = {"num_classes": data.num_classes, "resolution": data.resolution}
    return create_space("vitbench-autoformer", **size, width_mult=0.125, patch_size=4)


@pytest.fixture(scope="module")
def teacher(space: SearchSpace) -> Teacher:
    return load_teacher(space.build(space.sample(1, seed=7)[0], seed=7))


@pytest.fixture(scope="module")
def new(space: SearchSpace, data: DataSet, teacher: Teacher) -> Any:
    def make(distiller: str, **options: Any) -> StudentTrainer:
        train = DistilSettings.recipe(
            epochs=1, batch_size=8, lr=0.0005, evaluations=1, augment="none"
        )
        settings = DistilSettings(distiller=distiller, options=options, train=train)
        arch = space.sample(1, seed=2)[0]
        student = space.build(arch, seed=0)
        return StudentTrainer(space, arch, student, data, settings, teachers=(teacher,))

    return make


def run(trainer: StudentTrainer, steps: int = 10**9) -> list[float]:
    losses = []
    while not trainer.done and trainer.next_step < steps:
        losses.append(trainer.step().loss)
    return losses


@pytest.mark.parametrize(
    ("name", "options"), [("minilm", {}), ("tinybert", {}), ("lighthubert", {"mask": 0.65})]
)
def test_trained_and_resumed_bit_for_bit(
    name: str, options: dict[str, Any], new: Any, tmp_path: Path
) -> None:
    whole = new(name, **options)
    losses = run(whole)
    first = new(name, **options)
    before = run(first, 2)
    save_checkpoint(first, tmp_path / "last.safetensors")
    second = new(name, **options)
    restore(second, tmp_path / "last.safetensors")
    assert before + run(second) == losses
    assert len(set(losses)) == len(losses)
    # The classifier is trained, too, and nothing learnt beside is handed over.
    student, plain = new(name, **options).student, whole.best_network()
    assert plain.state_dict().keys() == student.state_dict().keys()
    assert not torch.equal(plain.head.weight, student.head.weight)


def test_masked_tokens_are_the_student_s_alone(new: Any) -> None:
    trainer = new("lighthubert", mask=0.65)
    seen: list[Tensor] = []
    student = trainer.student
    first = student.get_submodule(attention_layers(student)[0].name)
    first.register_forward_hook(lambda _module, args, _out: seen.append(args[0].detach()))
    vector = trainer.distiller.vector.detach().clone()
    trainer.step()
    masked = [(x == vector).all(dim=2) for x in seen]
    assert masked
    assert all(bool(m.any(dim=1).all()) for m in masked)  # a span in each image
    assert not torch.equal(trainer.distiller.vector, vector)
    images = torch.zeros(2, 3, trainer.data.resolution, trainer.data.resolution)
    seen.clear()
    student(images)
    assert not (seen[0] == trainer.distiller.vector).all(dim=2).any()


def test_convnets_are_refused(data: DataSet, teacher: Teacher) -> None:
    space = schedule_suite.space()
    arch = space.sample(1, seed=2)[0]
    settings = DistilSettings(distiller="minilm", train=DistilSettings.recipe(epochs=1))
    with pytest.raises(InvalidInputError, match="the student has no attention layers"):
        StudentTrainer(space, arch, space.build(arch), data, settings, teachers=(teacher,))


# ---------------------------------------------------------------------- what is read


def encoder(heads: tuple[int, ...] = (2, 3), classes: int = 4) -> Encoder:
    style = EncoderStyle(norm="post", head_dim=8, final_norm=False)
    shape = EncoderShape(24, tuple(LayerShape(a, 40, i) for i, a in enumerate(heads)))
    return Encoder(TextStemSpec(50, 16), style, shape, num_classes=classes).eval()


def read(network: nn.Module, x: Tensor, *reads: str) -> Any:
    reader = TokenReader(network, reads or ("tokens", "qkv"), "it")
    with torch.no_grad(), reader.recording():
        network(x)
    return reader.read()


def test_tokens_queries_and_padding_of_an_encoder() -> None:
    network = encoder()
    ids = torch.randint(1, 50, (3, 10), generator=torch.Generator().manual_seed(0))
    ids[1, 6:] = 0
    taps = read(network, ids)
    assert torch.equal(taps.mask, ids != 0)
    assert taps.grid is None
    assert [tuple(x.shape) for x in taps.qkv] == [(3, 3, 2, 10, 8), (3, 3, 3, 10, 8)]
    with torch.no_grad():
        x = network.stem(ids)
        assert torch.equal(taps.layers[0], x)
        for i, layer in enumerate(network.layers):
            q, k, v = layer.qkv(x).chunk(3, dim=2)  # post-norm: of the stream itself
            given = torch.stack([z.unflatten(2, (-1, 8)).transpose(1, 2) for z in (q, k, v)], 1)
            assert torch.equal(taps.qkv[i], given)
            x = layer(x, taps.mask)
            assert torch.equal(taps.layers[i + 1], x)
    assert not read(network, ids, "qkv").layers
    assert not any(module._forward_hooks for module in network.modules())


def test_tokens_of_a_timm_model() -> None:
    timm = import_timm()
    with torch.random.fork_rng():
        network = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2)
    taps = read(network, torch.zeros(2, 3, 64, 64))
    assert taps.grid == (4, 4)
    assert taps.mask is None
    assert [tuple(x.shape) for x in taps.layers] == [(2, 17, 192)] * 3
    assert [tuple(x.shape) for x in taps.qkv] == [(2, 3, 3, 17, 64)] * 2
