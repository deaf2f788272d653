"""bfloat16: convolutions in it, statistics, losses and weights out of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scholarch.data import load_data
from scholarch.datasets.dataset import DataSet
from scholarch.searchspace.convnets.resnet_cifar import CifarResNetSpace
from scholarch.searchspace.elastic import ElasticBatchNorm2d, ElasticConv2d
from scholarch.supernet.evaluate import Evaluator
from scholarch.supernet.settings import TrainSettings
from scholarch.supernet.trainer import Trainer

STEPS = 6

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]

pytestmark = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture(scope="module")
def data() -> DataSet:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (96, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(96) % 4
    images[np.arange(96), labels] = 255
    return load_data((images, labels), val_fraction=0.2)


def _trainer(data: DataSet, precision: str, device: str) -> Trainer:
    widths = ((8,), (8,), (8, 16), (8, 16))
    space = CifarResNetSpace("test-tiny", (1, 2), widths, num_classes=4, resolution=8)
    settings: dict[str, Any] = {"epochs": 8, "batch_size": 8, "lr": 0.02, "augment": "none"}
    given = TrainSettings(schedule="sandwich", precision=precision, device=device, **settings)
    return Trainer(space, data, given)


def test_losses_stay_near_those_of_float32(data: DataSet, device: str) -> None:
    """Their mean over six steps within 5 %: bfloat16 has eight bits, and steps add up."""
    full, half = (_trainer(data, precision, device) for precision in ("float32", "bfloat16"))
    losses = [[runner.step().loss for _ in range(STEPS)] for runner in (full, half)]
    assert losses[0] != losses[1]
    assert losses[1][0] == pytest.approx(losses[0][0], rel=2e-2)
    assert np.mean(losses[1]) == pytest.approx(np.mean(losses[0]), rel=5e-2)
    assert np.mean(losses[1][-2:]) < np.mean(losses[1][:2])


def test_what_is_kept_is_float32(data: DataSet, device: str) -> None:
    runner = _trainer(data, "bfloat16", device)
    maps: list[torch.dtype] = []
    logits: list[torch.dtype] = []
    norms = [m for m in runner.network.modules() if isinstance(m, ElasticBatchNorm2d)]
    convs = [m for m in runner.network.modules() if isinstance(m, ElasticConv2d)]

    def note(_module: object, _inputs: object, output: Tensor) -> None:
        maps.append(output.dtype)

    hook = convs[1].register_forward_hook(note)
    forward = runner.forward

    def spied(*given: Any) -> Tensor:
        logits.append(forward(*given).dtype)
        return forward(*given)

    before = runner.flat.buffers.clone()
    runner.forward = spied
    runner.step()
    hook.remove()
    assert {*maps} == {torch.bfloat16}
    assert {*logits} == {torch.bfloat16}  # taken to float32 before any loss
    for norm in norms:
        assert norm.running_mean.dtype == norm.running_var.dtype == torch.float32
    assert not torch.equal(runner.flat.buffers, before)
    kept = (runner.flat.values, runner.flat.gradients, runner.flat.buffers, runner.momentum)
    assert {tensor.dtype for tensor in kept} == {torch.float32}


def test_losses_are_taken_in_float32(
    data: DataSet, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those from labels and those from the largest network's answers."""
    from scholarch.supernet import losses, task

    seen: list[torch.dtype] = []
    entropy = task.cross_entropy
    runner = _trainer(data, "bfloat16", device)
    name = runner.schedule.divergence
    divergence = losses.DIVERGENCES[name]

    def from_labels(logits: Tensor, *rest: Any) -> Tensor:
        seen.append(logits.dtype)
        return entropy(logits, *rest)

    def from_teacher(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        seen.extend((student.dtype, teacher.dtype))
        return divergence(student, teacher, temperature)

    monkeypatch.setattr(task, "cross_entropy", from_labels)
    monkeypatch.setitem(losses.DIVERGENCES, name, from_teacher)
    runner.step()
    assert len(seen) == 1 + 3 * 2
    assert {*seen} == {torch.float32}


def test_evaluation_is_in_float32(data: DataSet, device: str) -> None:
    runner = _trainer(data, "bfloat16", device)
    for _ in range(STEPS):
        runner.step()
    evaluator = Evaluator(runner.network, data, calibration=64, device=device)
    assert 0.0 <= evaluator.accuracy(runner.drawer.largest) <= 1.0
    plain = runner.network.extract(runner.drawer.largest)
    assert {tensor.dtype for tensor in plain.parameters()} == {torch.float32}
