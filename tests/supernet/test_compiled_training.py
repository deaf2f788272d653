"""Training with compiled steps: the same numbers, and no more graphs once all are met."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from scholarch.data import load_data
from scholarch.datasets.dataset import DataSet
from scholarch.searchspace.convnets.resnet_cifar import CifarResNetSpace
from scholarch.supernet.compiled import CompiledSteps, CompilerError
from scholarch.supernet.evaluate import Evaluator
from scholarch.supernet.settings import TrainSettings
from scholarch.supernet.trainer import Trainer


@pytest.fixture(scope="module")
def data() -> DataSet:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)
    return load_data((images, np.arange(64) % 4), val_fraction=0.2)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The compiler's own warnings and draws are of no concern here."""
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        yield
    torch._dynamo.reset()


def _trainer(data: DataSet, *, compiled: bool) -> Trainer:
    widths = ((4,), (4,), (8,), (8, 16))
    space = CifarResNetSpace("test-tiny", (1,), widths, num_classes=4, resolution=8)
    settings = TrainSettings(
        schedule="sandwich", epochs=2, batch_size=8, lr=0.02, compile=compiled, augment="none"
    )
    return Trainer(space, data, settings)


def _graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


def _agree(data: DataSet, backend: str | Callable[..., Any]) -> None:
    eager, compiled = (_trainer(data, compiled=flag) for flag in (False, True))
    assert isinstance(compiled.forward, CompiledSteps)
    compiled.forward = CompiledSteps(compiled.network, backend=backend)
    limits = torch._dynamo.config.recompile_limit
    for _ in range(2):
        a, b = eager.step(), compiled.step()
        assert b.loss == pytest.approx(a.loss, rel=1e-4)
    assert len(compiled.forward) >= 5
    settled = _graphs()
    for _ in range(2):
        eager.step()
        compiled.step()
    assert _graphs() == settled > 0
    assert torch._dynamo.config.recompile_limit == limits
    for a, b in (
        (eager.flat.values, compiled.flat.values),
        (eager.flat.buffers, compiled.flat.buffers),
    ):
        assert float((a - b).abs().max()) <= 1e-4 * float(a.abs().max())
    # What is cut out and measured is never compiled.
    arch = compiled.drawer.smallest
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    compiled.network.eval()
    with torch.no_grad():
        assert torch.equal(compiled.network.extract(arch)(x), compiled.network(x, arch))
    accuracies = [
        Evaluator(runner.network, data, calibration=32).accuracy(arch)
        for runner in (eager, compiled)
    ]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.1)
    assert _graphs() == settled


def test_steps_compute_what_they_did_and_graphs_settle(data: DataSet) -> None:
    _agree(data, "eager")


@pytest.mark.slow
def test_with_gradients_traced_ahead(data: DataSet) -> None:
    _agree(data, "aot_eager")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_by_the_default_compiler(data: DataSet) -> None:
    _agree(data, "inductor")


def test_a_missing_compiler_is_one_line(data: DataSet) -> None:
    def broken(*_: object) -> None:
        raise OSError("no working C++ compiler\nmore of it")

    runner = _trainer(data, compiled=True)
    runner.forward = CompiledSteps(runner.network, backend=broken)
    with pytest.raises(CompilerError, match=r"no working C\+\+ compiler; .*compile = False") as one:
        runner.step()
    assert "\n" not in str(one.value)
