"""A student: an architecture with its network, costs and scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..searchspace.architecture import Architecture, Stage
from ..searchspace.errors import InvalidInputError, ScholarchError
from ..searchspace.factory import create_space
from ..searchspace.files import make_folder, write_atomic
from ..searchspace.space import SearchSpace

__all__ = ["Student"]


@dataclass(frozen=True, eq=False)
class Student:
    """One architecture a search returned.

    Attributes:
        arch: the architecture.
        space: where it comes from.
        costs: by name; ``macs`` of one image at the space's resolution.
        score: what the search maximised, higher is better.
        scores: every proxy computed, oriented: higher is better; NaN = failed.
        seed: of the initial weights of :meth:`module`.
    """

    arch: Architecture
    space: SearchSpace
    costs: Mapping[str, float]
    score: float
    scores: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    def module(self) -> nn.Module:
        """A standalone network with freshly initialised, untrained weights."""
        return self.space.build(self.arch, seed=self.seed)

    @property
    def stages(self) -> list[Stage]:
        """The architecture stage by stage."""
        return self.space.stages(self.arch)

    def to_json(self) -> dict[str, Any]:
        """Plain data; failed scores are ``None``."""
        return {
            "arch": self.arch.text,
            "key": self.arch.key,
            "score": self.score,
            "costs": dict(self.costs),
            "scores": {k: v if v == v else None for k, v in self.scores.items()},
        }

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``; read by :meth:`from_pretrained`.

        The weights are the untrained ones of :meth:`module`; ``config.json`` says so.

        Raises:
            StoreError: if the folder cannot be written.
        """
        from safetensors.torch import save

        folder = Path(folder)
        make_folder(folder)
        config = {
            "format": "scholarch-student",
            "version": 1,
            "space": self.space.spec(),
            "architecture": self.arch.to_json(),
            "trained": False,
            "seed": self.seed,
            "score": self.score,
            "costs": dict(self.costs),
        }
        state = {name: t.contiguous() for name, t in self.module().state_dict().items()}
        write_atomic(folder / "model.safetensors", save(state))
        write_atomic(folder / "config.json", json.dumps(config, indent=2) + "\n")

    @staticmethod
    def from_pretrained(folder: str | Path) -> nn.Module:
        """The network that :meth:`save_pretrained` wrote.

        Raises:
            InvalidInputError: if the folder holds no such student.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        folder = Path(folder)
        try:
            config = json.loads((folder / "config.json").read_text())
            space = create_space(**config["space"])
            arch = space.parse(config["architecture"]["text"])
            network = space.build(arch)
            network.load_state_dict(load((folder / "model.safetensors").read_bytes()))
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            raise InvalidInputError(f"no student in {folder}: {error}") from error
        return network

    def export(self, path: str | Path) -> None:
        """Write the network as ONNX with a dynamic batch; needs ``scholarch[onnx]``.

        Raises:
            ScholarchError: if the ``onnx`` extra is not installed.
        """
        try:
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise ScholarchError(
                "ONNX export needs the extra: pip install 'scholarch[onnx]'"
            ) from error
        side = self.space.resolution
        example = torch.zeros(2, self.space.in_channels, side, side)
        torch.onnx.export(
            self.module().eval(),
            (example,),
            str(path),
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
