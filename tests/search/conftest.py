"""What the tests of a search share: a batch without a file, proxies without a network."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import pytest
import torch

from scholarch.proxies import registry
from scholarch.proxies.batch import Batch
from scholarch.proxies.probe import Probe
from scholarch.proxies.registry import Proxy

Compute = Callable[[Probe], float]


@pytest.fixture(scope="session")
def batch() -> Batch:
    """Eight images of ten classes, 32×32."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 32, 32, generator=generator)
    return Batch(images, torch.arange(8), 10, (0.5,) * 3, (0.3,) * 3, "noise")


@pytest.fixture
def add_proxy(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Compute], None]:
    """Registers a proxy for one test; it needs nothing unless told."""

    def add(name: str, compute: Compute, version: int = 1) -> None:
        proxy = Proxy(name, compute, "of a test", "a test", frozenset(), version=version)
        monkeypatch.setitem(registry._PROXIES._items, name, proxy)

    return add


def chance(text: str) -> float:
    """A number in [0, 1) that depends on nothing but a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


def late(probe: Probe) -> float:
    """Rewards late blocks and narrow stems: at odds with MACs, with a dent here and there."""
    weights = (1.0, 2.0, 4.0, -0.5, 0.3, 0.5, 0.7)
    pairs = zip(weights, probe.arch.choices, strict=False)
    return sum(w * c for w, c in pairs) + chance(probe.arch.key)


def half(probe: Probe) -> float:
    """``late``, but NaN or a crash for half of the candidates."""
    if chance(probe.arch.key) < 0.25:
        return math.nan
    if chance(probe.arch.key) < 0.5:
        raise RuntimeError("this one breaks")
    return late(probe)


def never(probe: Probe) -> float:
    """Always out of memory."""
    raise MemoryError


@pytest.fixture(autouse=True)
def _proxies(add_proxy: Callable[[str, Compute], None]) -> None:
    for compute in (late, half, never):
        add_proxy(f"test-{compute.__name__}", compute)
