"""What every test shares: the data folder, one thread, untouched global generators."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

# Before matplotlib and the BLAS under numpy are loaded.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import rich.style  # noqa: F401 (draws from `random` when first imported)
import torch

# A run's bytes depend on the thread count: gradients of one and two threads differ by 2e-8.
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent

DATA_REQUIRED = os.environ.get("SCHOLARCH_REQUIRE_DATA") == "1"


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root, which is also the package's folder."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data that ``SCHOLARCH_DATA`` names; skips where there is none.

    With ``SCHOLARCH_REQUIRE_DATA=1`` any skip of a test that asks for it is a failure.
    """
    folder = os.environ.get("SCHOLARCH_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip(f"needs the real data; SCHOLARCH_DATA is {folder or 'unset'!r}")
    return Path(folder)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    asked = "data_dir" in getattr(item, "fixturenames", ())
    if DATA_REQUIRED and asked and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped although SCHOLARCH_REQUIRE_DATA=1: {reason}"
    return report


def _generator_states() -> dict[str, object]:
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 (looks, draws nothing)
    return {
        "random": random.getstate(),
        "numpy.random": (name, keys.tobytes(), rest),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


@pytest.fixture(autouse=True)
def _global_generators_untouched() -> Iterator[None]:
    """No test, so no code of ours, draws from or seeds a global generator."""
    before = _generator_states()
    yield
    after = _generator_states()
    moved = [name for name in before if before[name] != after[name]]
    assert not moved, f"the global generator of {', '.join(moved)} was drawn from or seeded"
