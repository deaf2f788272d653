"""Both ways from sound to tokens leave torch as one ONNX file: exporting takes seconds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scholarch.search.shipping.runtime import quiet
from scholarch.searchspace.elastic import initialise
from scholarch.searchspace.transformers.mel_stem import MelStemSpec
from scholarch.searchspace.transformers.wave_stem import WaveStemSpec

SHORT: dict[str, Any] = {
    "channels": (8, 8),
    "kernels": (10, 3),
    "strides": (20, 8),
    "positional": 4,
    "groups": 2,
}


class _Stems(nn.Module):
    """Every stem of sound, side by side."""

    def __init__(self) -> None:
        super().__init__()
        pre = {"bias": True, "norm": "layer", "token_norm": False, "normalise": True}
        specs = (MelStemSpec(positions=20), WaveStemSpec(**SHORT), WaveStemSpec(**SHORT, **pre))
        with torch.device("meta"):
            self.stems = nn.ModuleList(spec.plain(8) for spec in specs)
        self.to_empty(device="cpu")
        initialise(self, seed=0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([stem(x) for stem in self.stems], dim=1)


def test_onnx_computes_what_torch_does() -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    network = _Stems().eval()
    generator = torch.Generator().manual_seed(0)
    with quiet(), torch.no_grad():
        program: Any = torch.onnx.export(
            network,
            (torch.zeros(2, 2000),),
            dynamo=True,
            input_names=["sound"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    for clips in (1, 3):
        sound = 0.1 * torch.randn(clips, 2000, generator=generator)
        with torch.no_grad():
            known = network(sound).numpy()
        (found,) = session.run(None, {"sound": sound.numpy()})
        assert np.abs(found - known).max() <= 1e-4 * np.abs(known).max()
