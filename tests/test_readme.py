"""Every line of the README runs as written, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def blocks(root: Path, language: str) -> list[str]:
    text = (root / "README.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


def environment() -> dict[str, str]:
    """This interpreter's scripts first, so that `scholarch` is the one under test."""
    scripts = str(Path(sys.executable).parent)
    return os.environ | {"PATH": scripts + os.pathsep + os.environ["PATH"], "COLUMNS": "120"}


@pytest.mark.slow
def test_python_blocks(root: Path, tmp_path: Path) -> None:
    found = blocks(root, "python")
    assert found
    for block in found:
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", block],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert run.returncode == 0, block + run.stderr
    assert (tmp_path / "runs-from-python" / "report.html").is_file()


@pytest.mark.slow
def test_shell_lines(root: Path, tmp_path: Path) -> None:
    found = blocks(root, "sh")
    assert found
    for line in "".join(found).splitlines():
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert run.returncode == 0, line + run.stderr


def test_links_and_make_targets_exist(root: Path) -> None:
    text = (root / "README.md").read_text()
    for path in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (root / path).exists(), path
    targets = set(re.findall(r"^([a-z]+):.*##", (root / "Makefile").read_text(), flags=re.M))
    for target in re.findall(r"\bmake ([a-z]+)", text):
        assert target in targets | {"s"}, target
