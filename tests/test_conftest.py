"""The guards of conftest.py hold: missing data, touched generators, warnings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import random, warnings
import numpy, pytest, torch

def test_reads_data(data_dir):
    if not (data_dir / "table.csv").exists():
        pytest.skip("no table")

def test_skips_for_another_reason():
    pytest.skip("no such hardware")

def test_draws_random(): random.random()
def test_draws_numpy(): numpy.random.rand()
def test_draws_torch(): torch.rand(1)
def test_seeds_torch(): torch.manual_seed(torch.initial_seed() + 1)
def test_warns(): warnings.warn("old")
def test_own_generator(): torch.rand(1, generator=torch.Generator().manual_seed(0))
"""


@pytest.mark.parametrize(
    ("folder_exists", "required", "processes", "reads_data"),
    [(False, False, 0, "SKIPPED"), (False, True, 1, "ERROR"), (True, True, 0, "FAILED")],
)
def test_guards(
    folder_exists: bool, required: bool, processes: int, reads_data: str, tmp_path: Path
) -> None:
    """In this process and in one of pytest-xdist, as `make test` has several."""
    here = Path(__file__).parent
    for name in ("conftest.py", "pytest.ini"):
        shutil.copy(here / name, tmp_path)
    (tmp_path / "test_these.py").write_text(TESTS, encoding="utf-8")
    if folder_exists:
        (tmp_path / "data").mkdir()
    environment = os.environ | {
        "SCHOLARCH_DATA": str(tmp_path / "data"),
        "SCHOLARCH_REQUIRE_DATA": "1" if required else "",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-c", "pytest.ini", "-n", str(processes), "."],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if "::" in line and "%]" in line]
    outcomes = {}
    for line in lines:  # several processes tell the outcome before the test, one after it
        name, outcome = re.search(r"::test_(\w+)", line), re.search("[A-Z]{5,}", line)
        assert name is not None, line
        assert outcome is not None, line
        outcomes[name[1]] = outcome[0]
    assert outcomes == {
        "reads_data": reads_data,
        "skips_for_another_reason": "SKIPPED",
        "draws_random": "ERROR",
        "draws_numpy": "ERROR",
        "draws_torch": "ERROR",
        "seeds_torch": "ERROR",
        "warns": "FAILED",
        "own_generator": "PASSED",
    }, done.stdout
