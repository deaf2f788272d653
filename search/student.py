"""A student: an architecture with its network, costs and scores."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..searchspace.architecture import Architecture, Stage
from ..searchspace.errors import InvalidInputError
from ..searchspace.factory import create_space
from ..searchspace.files import make_folder, write_atomic
from ..searchspace.space import SearchSpace

if TYPE_CHECKING:
    from .distilled import Distilled
    from .shipping.inputs import Image

__all__ = ["FORMAT", "VECTORS", "Student", "TrainedWeights"]

FORMAT = "scholarch-student"
"""``format`` in the ``config.json`` of a student's folder."""


VECTORS = "agreement"
"""``score`` in :attr:`TrainedWeights.about` of who learned a teacher's vectors, not classes."""


@dataclass(frozen=True, eq=False)
class TrainedWeights:
    """Weights that were learned, and what is known of them.

    Attributes:
        module: makes the network, in eval mode.
        accuracy: part of the data → accuracy in [0, 1] of that network, or what ``score`` in
            ``about`` names.
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
        costs: by name; ``macs`` of one input at the space's resolution.
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
            "scores": _finite(self.scores),
            **({"accuracy": dict(self.trained.accuracy)} if self.trained else {}),
        }

    @property
    def image(self) -> Image:
        """Channels, height and width of the images that the network takes, or what sequences."""
        from .shipping.inputs import Sequences

        if self.space.modality != "image":
            return Sequences.of(self.space)
        return self.space.input_shape()

    @property
    def gives_vectors(self) -> bool:
        """Whether it learned a teacher's vectors, and its outputs are no logits of classes."""
        return self.trained is not None and self.trained.about.get("score") == VECTORS

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the student's folder.

        ``config.json`` and ``model.safetensors`` are what :meth:`from_pretrained` reads;
        ``model.py`` is the network as a source that needs torch alone; ``README.md`` is the model
        card. The weights are those of :meth:`module`; ``config.json`` says whether they are
        trained. A network that cannot be written as a source has no ``model.py``, and its card
        says why.

        Raises:
            StoreError: if the folder cannot be written.
        """
        from safetensors.torch import save

        from .shipping.card import model_card

        folder = Path(folder)
        make_folder(folder)
        config = {
            "format": FORMAT,
            "version": 1,
            "space": self.space.spec(),
            "architecture": self.arch.to_json(),
            "trained": self.trained is not None,
            "seed": self.seed,
            "score": self.score if math.isfinite(self.score) else None,
            "scores": _finite(self.scores),
            "costs": _finite(self.costs),
        }
        if self.trained is not None:
            config |= {"accuracy": dict(self.trained.accuracy), "weights": dict(self.trained.about)}
        network = self.module()
        state = {name: t.contiguous() for name, t in network.state_dict().items()}
        write_atomic(folder / "model.safetensors", save(state))
        reason = self._write_source(network.eval(), folder / "model.py")
        write_atomic(folder / "README.md", model_card(self, model_file=reason))
        write_atomic(folder / "config.json", json.dumps(config, indent=2) + "\n")

    def _write_source(self, network: nn.Module, path: Path) -> str | None:
        """Write ``model.py``; why there is none where it cannot be."""
        from safetensors.torch import save

        from .shipping.model_file import CONSTANTS, model_source
        from .shipping.shaped_trace import UntraceableError
        from .shipping.source import constants_of

        inputs = (self.trained.about.get("input") if self.trained else None) or {}
        try:
            source = model_source(
                network,
                self.image,
                about=f"{self.space.name} {self.arch.text}",
                classes=self.space.num_classes,
                mean=inputs.get("mean"),
                std=inputs.get("std"),
                vectors=self.gives_vectors,
            )
        except UntraceableError as error:
            path.unlink(missing_ok=True)  # of another student, saved here before
            return str(error)
        if constants := constants_of(network):
            plain = {name: value.contiguous() for name, value in constants.items()}
            write_atomic(path.with_name(CONSTANTS), save(plain))
        write_atomic(path, source)
        return None

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

    def distil(self, teacher: Any, data: Any, **given: Any) -> Distilled:
        """Train this student by a teacher's answers; see :func:`scholarch.distil_student`.

        Args:
            teacher: one, or several whose probabilities are averaged.
            data: a name, a path or a data set.
            **given: further arguments of :func:`scholarch.distil_student`, such as ``epochs``,
                ``distiller``, ``out`` and ``baseline``.

        Raises:
            ScholarchError: with one plain line for whatever input will not do.
        """
        # Teachers and data are named at the front door, which stands above this package and is
        # not imported from it: its lazily exported function is looked up when it is called.
        front = import_module(__name__.partition(".")[0])
        found: Distilled = front.distil_student(self, teacher=teacher, data=data, **given)
        return found

    def export(self, path: str | Path) -> None:
        """Write the network as one ONNX file with a dynamic batch; needs ``scholarch[onnx]``.

        It takes normalised images, token ids ``[B, L]`` or waveforms ``[B, T]``, as :meth:`module`
        does. What the file computes is compared
        with torch first, on batches of several sizes. Other formats, int8 among them, are
        written by :func:`scholarch.exporting.export_student`.

        Raises:
            ScholarchError: if the ``onnx`` extra is not installed, the network cannot be
                exported, or the file would compute something else.
            StoreError: if the file cannot be written.
        """
        from .shipping.onnx_file import write_onnx

        write_onnx(self.module().eval(), Path(path), self.image)


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
