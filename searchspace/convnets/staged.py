"""Spaces of networks that are a chain of stages: counted once, for costs and for reports."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..architecture import Architecture, Gene, Stage
from ..errors import InvalidInputError
from ..space import BYTES, Columns, Matrix, SearchSpace

__all__ = ["Count", "Part", "StagedSpace", "Tally", "check_width_mult", "divisible", "halved"]

Count = npt.NDArray[np.float64] | float
"""A number for each of N architectures, ``[N]``, or one for all."""

#: Rows counted at a time: their columns stay in the processor's cache.
CHUNK = 1 << 14


def divisible(width: float, by: int = 8) -> int:
    """The nearest multiple of ``by``, at least ``by`` and at least 90% of ``width``.

    MobileNet's rule, half rounded up, which once-for-all uses for every width.
    """
    rounded = max(by, int(width + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * width else rounded


def halved(side: int, stride: int) -> int:
    """Side of the map behind a stride, in pixels: what is left over counts as one more."""
    return -(-side // stride)


def check_width_mult(width_mult: float) -> float:
    """The factor itself; raises :class:`InvalidInputError` outside ⅛ … 4."""
    # Written so that a NaN fails, too.
    if not isinstance(width_mult, int | float) or not 0.125 <= width_mult <= 4.0:
        raise InvalidInputError(f"width_mult = {width_mult}; need a factor from 0.125 to 4")
    return float(width_mult)


@dataclass(slots=True, eq=False)
class Tally:
    """Sums over layers, for N architectures at once.

    Attributes:
        params: trainable parameters.
        macs: multiply-accumulates of one image in convolutions and linear layers.
        layers: weighted layers on the longest path.
        peak: most values, of one image, that a convolution or linear layer reads and writes.
    """

    params: Count = 0.0
    macs: Count = 0.0
    layers: Count = 0.0
    peak: Count = 0.0

    def conv(
        self,
        c_in: Count,
        c_out: Count,
        kernel: Count,
        side: int,
        *,
        side_in: int | None = None,
        times: Count = 1.0,
        depthwise: bool = False,
        on_path: bool = True,
    ) -> None:
        """Add convolutions without bias, each with its batch norm.

        Args:
            c_in: input channels.
            c_out: output channels.
            kernel: side of the kernel.
            side: of the map that it gives out, in pixels.
            side_in: of the map that it is given; default ``side``. Where the first of several is
                strided, its own: the peak is the largest.
            times: how many there are; 0 leaves the architecture as it is.
            depthwise: one filter a channel.
            on_path: whether it lies on the longest path, as projections do not.
        """
        weights = kernel * kernel * c_out * times
        if not depthwise:
            weights = weights * c_in
        self.params = self.params + (weights + 2.0 * c_out * times)
        self.macs = self.macs + weights * float(side * side)
        area_in = float((side if side_in is None else side_in) ** 2)
        values = c_in * area_in + c_out * float(side * side)
        self.peak = np.maximum(self.peak, np.where(np.asarray(times) > 0, values, 0.0))
        if on_path:
            self.layers = self.layers + times

    def linear(self, c_in: Count, c_out: int) -> None:
        """Add a linear layer with bias."""
        self.params = self.params + (c_in * c_out + c_out)
        self.macs = self.macs + c_in * c_out
        self.layers = self.layers + 1.0
        self.peak = np.maximum(self.peak, c_in + c_out)


@dataclass(slots=True, eq=False)
class Part:
    """A stage of N architectures at once.

    Attributes:
        name: e.g. ``"stage 2"``.
        side: height and width it gives out, in pixels.
        blocks: how many blocks it holds.
        width: channels it gives out.
        tally: its costs.
    """

    name: str
    side: int
    blocks: Count
    width: Count
    tally: Tally = field(default_factory=Tally)


class StagedSpace(SearchSpace):
    """A space that counts its networks part by part; costs and stages follow from that.

    Args:
        name: registered name.
        genes: the choices, in matrix-column order.
        width_mult: factor that the widths among the genes were multiplied with.
        **options: see :class:`~scholarch.searchspace.space.SearchSpace`.
    """

    def __init__(
        self, name: str, genes: Sequence[Gene], *, width_mult: float, **options: Any
    ) -> None:
        self.width_mult = width_mult
        super().__init__(name, genes, **options)

    @abc.abstractmethod
    def _parts(self, matrix: Matrix, resolution: int) -> list[Part]:
        """Stem, stages and classifier of the rows of a matrix, in order."""

    @abc.abstractmethod
    def _details(self, choices: tuple[int, ...]) -> Sequence[str]:
        """One line of words for each part of an architecture."""

    def spec(self) -> dict[str, Any]:
        return super().spec() | {"width_mult": self.width_mult}

    def _cost(self, matrix: Matrix, resolution: int) -> Columns:
        names = ("params", "macs", "depth", "peak_memory")
        columns = {name: np.empty(len(matrix)) for name in names}
        for begin in range(0, len(matrix), CHUNK):
            rows = slice(begin, begin + CHUNK)
            tallies = [part.tally for part in self._parts(matrix[rows], resolution)]
            columns["params"][rows] = sum(tally.params for tally in tallies)
            columns["macs"][rows] = sum(tally.macs for tally in tallies)
            columns["depth"][rows] = sum(tally.layers for tally in tallies)
            peaks = np.broadcast_arrays(*(tally.peak for tally in tallies))
            columns["peak_memory"][rows] = BYTES * np.max(peaks, axis=0)
        return columns

    def stages(self, arch: Architecture, *, resolution: int | None = None) -> list[Stage]:
        side = self.resolution if resolution is None else resolution
        parts = self._parts(self.encode([arch]), side)
        return [
            Stage(
                part.name,
                _only(part.blocks),
                _only(part.width),
                part.side,
                _only(part.tally.params),
                _only(part.tally.macs),
                detail,
            )
            for part, detail in zip(parts, self._details(arch.choices), strict=True)
        ]


def _only(count: Count) -> int:
    return int(np.asarray(count).item())
