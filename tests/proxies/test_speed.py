"""Scoring stays far faster than the plain way; the table is in ``results/speed-diswot``."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

from scholarch.proxies.batch import Batch
from scholarch.proxies.scoring import Scorer
from scholarch.searchspace.factory import create_space
from scholarch.teacher import load_teacher

#: 13 to 16 were measured. A smaller sample shares fewer prefixes than all of S0.
RATIO = 8.0
DEPTHS = (1, 3, 7)


@pytest.fixture
def plain(root: Path) -> ModuleType:
    """The plain way that the benchmark uses."""
    path = root / "results" / "speed-diswot" / "plain.py"
    spec = importlib.util.spec_from_file_location("plain_diswot", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their own module up.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "plain_diswot", module)
        spec.loader.exec_module(module)
    return module


def measured_ratio(plain: ModuleType) -> float:
    space = create_space("resnet-cifar-s0", num_classes=10)
    archs = [space.parse(f"{a}{b}{c}") for a in DEPTHS for b in DEPTHS for c in DEPTHS]
    images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, torch.arange(16) % 10, 10, (0.5,) * 3, (0.3,) * 3)
    teacher = load_teacher("resnet20-cifar10", untrained=True)
    taps = teacher.observe(batch)
    module = load_teacher("resnet20-cifar10", untrained=True).module.train().requires_grad_(True)
    cached = plain.Cached(module, batch.normalised, batch.labels)
    ours, theirs = [], dict.fromkeys(range(len(archs)), float("inf"))
    for _ in range(2):
        for i, arch in enumerate(archs):
            began = time.perf_counter()
            depths = tuple(int(digit) for digit in str(arch))
            cached.score(plain.fresh_student(depths, 10, seed=i))
            theirs[i] = min(theirs[i], time.perf_counter() - began)
            if i % 9 == 8:
                began = time.perf_counter()
                Scorer(space, ["diswot-released"], batch=batch, teacher=taps).score(archs)
                ours.append(time.perf_counter() - began)
    return sum(theirs.values()) / min(ours)


@pytest.mark.slow
def test_scoring_is_far_faster_than_the_plain_way_with_a_cached_teacher(plain: ModuleType) -> None:
    ratio = measured_ratio(plain)
    if ratio < RATIO:  # once more: a neighbour may have been busy
        ratio = max(ratio, measured_ratio(plain))
    assert ratio >= RATIO
