"""A pack of ONNX files, whose export takes seconds, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from scholarch.searchspace import create_space
from scholarch.searchspace.latency.pack import pack


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blocks and four networks of ``resnet-cifar-s0`` at 16 and 24 px; copied before use."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("packed") / "deep" / "er"
    pack(create_space("resnet-cifar-s0"), folder, resolutions=(16, 24), networks=4)
    return folder
