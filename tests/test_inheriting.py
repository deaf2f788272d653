"""A supernet of a teacher's own weights: searched, trained on, written and read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import scholarch
from scholarch.data import DataSet
from scholarch.deriving import encoder_of, space_for
from scholarch.search.budget import Budget
from scholarch.search.inherited import search_supernet
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.extremes import largest
from scholarch.searchspace.transformers.encoder import Encoder
from scholarch.searchspace.transformers.patch_stem import PatchStemSpec
from scholarch.searchspace.transformers.style import EncoderShape, EncoderStyle, LayerShape
from scholarch.supernet.evaluate import accuracy, part_batches


@pytest.fixture(scope="module")
def data() -> DataSet:
    return scholarch.load_data("digits")


def _vit(classes: int = 10, layers: int = 3, grid: int = 2) -> Encoder:
    """Layers that differ, of images of 8 pixels times the grid."""
    shape = EncoderShape(24, tuple(LayerShape(2 + i % 2, 48 - 8 * i, i) for i in range(layers)))
    stem = PatchStemSpec(patch=8, grid=grid)
    return Encoder(stem, EncoderStyle(head_dim=8, pool="patches"), shape, num_classes=classes)


def _teacher(data: DataSet, encoder: Encoder) -> scholarch.Teacher:
    return scholarch.load_teacher(encoder, mean=data.mean, std=data.std)


def test_the_largest_network_is_the_teacher(data: DataSet, tmp_path: Path) -> None:
    teacher = _teacher(data, _vit(grid=4))
    net = scholarch.inherit_supernet(teacher=teacher, data=data, out=tmp_path)
    assert net.space.name == "vit-from-teacher"
    x = data.batch(8, 0).normalised
    found, wanted = net.network(x, largest(net.space)), teacher.module(x)
    torch.testing.assert_close(found.detach(), wanted, rtol=1e-4, atol=1e-5)
    again = scholarch.load_supernet(tmp_path)
    assert again.space.spec() == net.space.spec()
    arch = net.space.sample(1, seed=3)[0]
    with torch.no_grad():
        assert torch.equal(again.network(x, arch), net.network(x, arch))
        assert torch.equal(again.network.extract(arch)(x), net.network(x, arch))


def test_which_layers_are_kept_is_the_spaces_to_say(data: DataSet) -> None:
    net = scholarch.inherit_supernet(teacher=_teacher(data, _vit()), data=data, how="prefix")
    keep = json.loads(json.dumps(net.space.spec()))["outline"]["keep"]
    assert keep == {"1": [0], "2": [0, 1], "3": [0, 1, 2]}
    again = scholarch.create_space(**net.space.spec())
    assert again.shape_of(again.sample(1)[0]).layers[0].source == 0  # type: ignore[attr-defined]


def test_it_is_searched_without_training_and_training_begins_with_it(
    data: DataSet, tmp_path: Path
) -> None:
    few = replace(data, **{p: type(data.val)(*(a[:60] for a in getattr(data, p)))
                           for p in ("train", "val", "test")})  # fmt: skip
    teacher = _teacher(data, _vit())
    net = scholarch.inherit_supernet(teacher=teacher, data=few)
    result = search_supernet(net, few, budget=Budget({}), evaluations=6, predictor="off")
    best = result.best
    assert best.trained is not None
    measured = accuracy(best.module().eval(), part_batches(few, "val"))
    assert measured == best.trained.accuracy["val"] == best.score
    trained = scholarch.train_supernet(
        start=net, data=few, schedule="sandwich", epochs=1, batch_size=16, evaluations=1,
        optimizer="adamw", out=tmp_path,
    )  # fmt: skip
    before, after = net.network.state_dict(), trained.network.state_dict()
    assert before.keys() == after.keys()
    moved = [float((after[k] - before[k]).abs().max()) for k in before]
    assert 0.0 < max(moved) < 0.2
    assert "start" in json.loads((tmp_path / "train.json").read_text())
    with pytest.raises(InvalidInputError, match="--start and --space exclude each other"):
        scholarch.train_supernet(start=net, space="resnet-cifar", data=few)


def test_a_space_is_made_from_a_transformer(data: DataSet) -> None:
    teacher = _teacher(data, _vit(layers=4))
    assert encoder_of(teacher) is teacher.module
    space = space_for(None, data.batch(8, 0), teacher, {"patch_size": 8})
    assert space.name == "vit-from-teacher"
    widest = space.shape_of(largest(space))  # type: ignore[attr-defined]
    assert (widest.dim, len(widest.layers), widest.layers[0].heads) == (24, 4, 3)
    # As many patches as the teacher has, where nothing else is said.
    assert space_for("vit-from-teacher", data.batch(8, 0), teacher).stem.grid == 2  # type: ignore[attr-defined]
    # Other spaces are what they are, whoever teaches.
    assert space_for("resnet-cifar-s0", data.batch(8, 0), teacher).name == "resnet-cifar-s0"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"teacher": "resnet14-digits"}, "resnet14-digits.*is no Transformer"),
        ({"data": "tones"}, "takes images, data 'tones' is sound"),
        ({"how": "best"}, "how = 'best'; need one of importance"),
        ({"space": "resnet-cifar-s0"}, "none of encoders"),
        (
            {"space": "autoformer-tiny", "space_options": {"patch_size": 8}},
            "not the space's largest",
        ),
    ],
)
def test_what_cannot_be_inherited_is_said(
    data: DataSet, options: dict[str, object], words: str
) -> None:
    asked = {"teacher": _teacher(data, _vit()), "data": data} | options
    with pytest.raises(InvalidInputError, match=words):
        scholarch.inherit_supernet(**asked)  # type: ignore[arg-type]
