"""A student: an architecture with its network, costs and scores."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
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

__all__ = ["Student", "TrainedWeights"]


@dataclass(frozen=True, eq=False)
class TrainedWeights:
    """Weights that were learned, and what is known of them.

    Attributes:
        module: makes the network, in eval mode.
        accuracy: part of the data → accuracy in [0, 1] of that network.
        about: who trained them, on what, with what normalisation; plain data.
    """

    module: Callable[[], nn.Module]
    accuracy: Mapping[str, float]
    about: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Student:
    """One architecture a search returned.

    Attributes:
        arch: the architecture.
        space: where it comes from.
        costs: by name; ``macs`` of one image at the space's resolution.
        score: what the search maximised, higher is better.
        scores: every proxy computed, oriented: higher is better; NaN = failed.
        seed: of the initial weights of :meth:`module`, where they are not trained.
        trained: weights, where they are.
    """

    arch: Architecture
    space: SearchSpace
    costs: Mapping[str, float]
    score: float
    scores: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    trained: TrainedWeights | None = None

    def module(self) -> nn.Module:
        """A standalone network: trained and in eval mode, or freshly initialised.

        Raises:
            InvalidInputError: if trained weights are not where they were.
        """
        if self.trained is not None:
            return self.trained.module()
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
            **({"accuracy": dict(self.trained.accuracy)} if self.trained else {}),
        }

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``; read by :meth:`from_pretrained`.

        The weights are those of :meth:`module`; ``config.json`` says whether they are trained.

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
            "trained": self.trained is not None,
            "seed": self.seed,
            "score": self.score,
            "costs": dict(self.costs),
        }
        if self.trained is not None:
            config |= {"accuracy": dict(self.trained.accuracy), "weights": dict(self.trained.about)}
        state = {name: t.contiguous() for name, t in self.module().state_dict().items()}
        write_atomic(folder / "model.safetensors", save(state))
        write_atomic(folder / "config.json", json.dumps(config, indent=2) + "\n")

    @staticmethod
    def from_pretrained(folder: str | Path) -> nn.Module:
        """The network that :meth:`save_pretrained` wrote; a trained one in eval mode.

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
        return network.eval() if config.get("trained") else network

    def export(self, path: str | Path) -> None:
        """Write the network as one ONNX file with a dynamic batch; needs ``scholarch[onnx]``.

        It takes normalised images, as :meth:`module` does.

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
        with warnings.catch_warnings():
            # Of torch's own ways inside, which no user can change.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                self.module().eval(),
                (example,),
                str(path),
                dynamo=True,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=False,  # one file
                verbose=False,  # it would write to stdout
            )
