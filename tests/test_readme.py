"""Every line of the README runs as written, in an empty folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest


def blocks(root: Path, language: str) -> list[str]:
    text = (root / "README.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


@pytest.mark.slow
def test_python_blocks(root: Path, tmp_path: Path, documented: Any) -> None:
    found = blocks(root, "python")
    assert found
    for block in found:
        documented.python(block)
    assert (tmp_path / "runs-from-python" / "report.html").is_file()


@pytest.mark.slow
def test_shell_lines(root: Path, documented: Any) -> None:
    found = blocks(root, "sh")
    assert found
    for line in "".join(found).splitlines():
        documented.shell(line)


def test_links_and_make_targets_exist(root: Path) -> None:
    text = (root / "README.md").read_text()
    for path in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (root / path).exists(), path
    targets = set(re.findall(r"^([a-z]+):.*##", (root / "Makefile").read_text(), flags=re.M))
    for target in re.findall(r"\bmake ([a-z]+)", text):
        assert target in targets | {"s"}, target
