"""A search on a supernet by proxies: scores of its weights, students that keep them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scholarch
from scholarch.api import find_student
from scholarch.cli import main
from scholarch.data import DataSet
from scholarch.datasets.arrays import Part
from scholarch.proxies.batch import Batch
from scholarch.search.result import SearchResult
from scholarch.search.summary import report_html
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.supernet.evaluate import accuracy, part_batches
from scholarch.supernet.pretrained import Supernet, load_supernet, write_supernet


@pytest.fixture(scope="module")
def data() -> DataSet:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 160, (160, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(160) % 4
    images[np.arange(160), labels] = 255  # a bright row tells the class
    parts = [Part(images[i], labels[i]) for i in np.split(np.arange(160), (80, 120))]
    return DataSet("patches", 4, *parts, mean=(0.4,) * 3, std=(0.3,) * 3)


@pytest.fixture(scope="module")
def net(data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Supernet:
    space = create_space("resnet-cifar", num_classes=4, resolution=8, width_mult=0.25)
    path = tmp_path_factory.mktemp("net") / "supernet.safetensors"
    about = {"data": {"name": data.name, "mean": [0.4] * 3, "std": [0.3] * 3, "resolution": 8}}
    write_supernet(space, space.supernet(seed=3), path, about)
    return load_supernet(path)


@pytest.fixture(scope="module")
def file(data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "patches.npz"
    parts = {part: getattr(data, part) for part in ("train", "val", "test")}
    np.savez(
        path,
        **{f"x_{part}": one.images for part, one in parts.items()},
        **{f"y_{part}": one.labels for part, one in parts.items()},
    )
    return str(path)


def find(net: Supernet, data: Any, **options: Any) -> SearchResult:
    asked = {"budget": {"macs": 4e5}, "evaluations": 6, "calibration": 20, "seed": 1}
    asked |= {"batch_size": 16, "searcher": "random"}
    return find_student(supernet=net, data=data, **(asked | options))


# ---------------------------------------------------------------------- scoring


def test_score_takes_the_supernets_weights(net: Supernet, data: DataSet) -> None:
    archs, batch = net.space.sample(2, seed=0), data.batch(16, 0)
    given = scholarch.score(archs=archs, supernet=net, batch=batch, proxies=["snip", "macs"])
    again = scholarch.score(net.space, archs, supernet=net.path, batch=batch, proxies=["snip"])
    random = scholarch.score(net.space, archs, batch=batch, proxies=["snip", "macs"])
    assert np.array_equal(given["snip"], again["snip"])
    assert np.array_equal(given["macs"], random["macs"])
    assert not np.any(given["snip"] == random["snip"])
    # Bare tensors are normalised as what the supernet was trained on was.
    bare = (batch.images, batch.labels)
    table = scholarch.score(archs=archs, supernet=net, batch=bare, proxies="snip")
    assert np.array_equal(table["snip"], given["snip"])


def test_score_refuses_what_does_not_go_together(net: Supernet, data: DataSet) -> None:
    archs, batch = net.space.sample(1, seed=0), data.batch(16, 0)
    other = create_space("resnet-cifar", num_classes=4, resolution=8)
    for space, options, text in (
        (other, {"proxies": ["expr"]}, "beside a supernet of another.*leave the space out"),
        (None, {}, "no proxies to score a supernet's weights by"),
        (None, {"proxies": ["synflow"]}, "synflow.*supernet's weights.*leave it out"),
    ):
        with pytest.raises(InvalidInputError, match=text):
            scholarch.score(space, archs, supernet=net, batch=batch, **options)
    with pytest.raises(InvalidInputError, match="give a space or supernet="):
        scholarch.score(archs=archs, proxies=["macs"])


def test_score_on_the_command_line(
    net: Supernet, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archs = net.space.sample(2, seed=0)
    (tmp_path / "archs.txt").write_text("\n".join(arch.text for arch in archs))
    line = ["score", str(tmp_path / "archs.txt"), "--data", file, "--batch-size", "16"]
    assert main([*line, "--supernet", str(net.path), "--proxy", "expr", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["scores"]
    batch = scholarch.load_data(file).batch(16, 0)
    table = scholarch.score(archs=archs, supernet=net, batch=batch, proxies=["expr"])
    assert [row["expr"] for row in rows] == pytest.approx(table["expr"].tolist(), rel=1e-6)
    for more, text in (
        ([], "give --space or --supernet"),
        (["--supernet", str(net.path), "--space", "resnet-cifar"], "exclude each other"),
        (["--supernet", str(net.path)], "name some"),
    ):
        assert main([*line, *more]) == 2
        assert text in capsys.readouterr().err


# ---------------------------------------------------------------------- searching


def test_a_candidates_score_is_the_proxys_on_the_supernets_weights(
    net: Supernet, data: DataSet, tmp_path: Path, plain_pages: None
) -> None:
    result = find(net, data, proxies=["expr"], out=tmp_path / "run")
    archs = [candidate.arch for candidate in result.candidates]
    batch: Batch = data.batch(16, 1)
    table = scholarch.score(archs=archs, supernet=net, batch=batch, proxies=["expr"], seed=1)
    assert [c.score for c in result.candidates] == table["expr"].tolist()
    # What is handed over has the supernet's weights, and says how well it does with them.
    again = SearchResult.load(tmp_path / "run")
    for best in (result.best, again.best):
        assert best.trained is not None
        for part, found in best.trained.accuracy.items():
            assert accuracy(best.module(), part_batches(data, part)) == found
        assert set(best.trained.accuracy) == {"val", "test"}
    wanted = net.network.extract(result.best.arch).state_dict()
    weight = next(name for name in wanted if name.endswith("conv1.weight"))
    assert (result.best.module().state_dict()[weight] == wanted[weight]).all()
    page = report_html(again)
    assert "inherits from a supernet" in page
    assert "is the accuracy on the validation part" not in page


def test_several_proxies_are_ranked_against_a_reference_sample(
    net: Supernet, data: DataSet
) -> None:
    result = find(net, data, proxies=["expr", "macs"])
    assert result.settings.score["name"] == "expr+macs"
    assert all(np.isfinite(candidate.score) for candidate in result.candidates)
    command = result.info["command"]
    assert "--proxy expr --proxy macs" in command
    assert "--batch-size 16" in command


def test_what_does_not_go_together_is_refused(net: Supernet, data: DataSet) -> None:
    for options, text in (
        ({"proxies": ["synflow"]}, "'synflow' is not defined here.*supernet's weights"),
        ({"proxies": ["expr"], "space": "resnet-cifar"}, "--supernet and --space exclude"),
        ({"proxies": ["expr"], "predictor": 5}, "--predictor and --proxy exclude"),
        ({"proxies": ["expr"], "workers": 2}, "workers = 2"),
        ({"proxies": ["kd-cka"]}, "'kd-cka' need a teacher"),
        ({"proxies": ["expr"], "calibration": 1}, "at least 2"),
        ({"teacher": "resnet14-digits"}, "--supernet and --teacher exclude.*name --proxy"),
    ):
        with pytest.raises(InvalidInputError, match=text):
            find(net, data, **options)
