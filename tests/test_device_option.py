"""``--device`` and ``--precision``: threaded through, recorded where they change scores."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

import scholarch
from scholarch.cli import main
from scholarch.search.settings import RunSettings

SEARCH = "search --space resnet-cifar-s0 --data digits --batch-size 8 --evaluations 4 --quiet"

pytestmark = pytest.mark.usefixtures("few_references")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("command", ["search", "score"])
def test_a_device_that_is_not_there(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "archs.txt").write_text("111\n")
    line = f"{SEARCH} --out {tmp_path / 'run'}"
    if command == "score":
        line = f"score {tmp_path / 'archs.txt'} --space resnet-cifar-s0 --data digits"
    assert main([*shlex.split(line), "--device", "cuda:0"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error: device 'cuda:0': no GPU here")
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_workers_and_a_gpu_are_refused() -> None:
    with pytest.raises(scholarch.InvalidInputError, match="workers = 2 with device 'cuda'"):
        scholarch.find_student(
            space="resnet-cifar-s0", data="digits", workers=2, device="cuda", batch_size=8
        )


def test_precision_is_part_of_a_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first, other = tmp_path / "first", tmp_path / "other"
    assert main([*shlex.split(SEARCH), "--out", str(first)]) == 0
    lower = ["--precision", "bfloat16"]
    assert main([*shlex.split(SEARCH), "--out", str(other), *lower]) == 0
    assert main([*shlex.split(SEARCH), "--out", str(other), *lower, "--workers", "2"]) == 0
    capfd.readouterr()
    assert main([*shlex.split(SEARCH), "--out", str(other)]) == 2
    assert "scoring.precision: bfloat16 there, none here" in capfd.readouterr().err
    one, two = (scholarch.SearchResult.load(folder) for folder in (first, other))
    assert one.settings.scoring == {}
    assert two.settings.scoring == {"precision": "bfloat16"}
    # A run from before there was a choice goes on as what it was.
    before = one.settings.to_json()
    del before["scoring"]
    assert not RunSettings.from_json(before).differences(one.settings)


def test_the_command_that_repeats_a_run_has_it() -> None:
    given = {"space": "resnet-cifar-s0", "data": "digits", "evaluations": 2, "batch_size": 8}
    lower = scholarch.find_student(**given, precision="bfloat16")
    assert "--precision bfloat16" in lower.info["command"]
    assert "--device" not in lower.info["command"]
    assert "--precision" not in scholarch.find_student(**given).info["command"]


def test_score_takes_a_precision() -> None:
    space = scholarch.create_space("resnet-cifar-s0", num_classes=10)
    batch = scholarch.load_batch("digits", size=8, seed=0)
    archs = space.sample(3, seed=0)
    full = scholarch.score(space, archs, batch=batch, proxies=["expr"])["expr"]
    half = scholarch.score(space, archs, batch=batch, proxies=["expr"], precision="bfloat16")
    assert not np.array_equal(full, half["expr"])
    np.testing.assert_allclose(full, half["expr"], rtol=0.01)
