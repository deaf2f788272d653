"""NAS-Bench-Macro's space of layers (Su et al., CVPR 2021, §4.3).

Eight layers, each the identity (0), the inverted residual block MB3_K3 (1) or MB6_K5 (2);
written as its eight digits, ``"00100211"``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..architecture import Architecture, Gene
from ..convnets.staged import Part, StagedSpace, check_width_mult, divisible, halved
from ..errors import InvalidInputError
from ..space import Matrix, register_space
from .nasbench_macro_net import BLOCKS, STAGES, ElasticMacroNet, MacroNet, MacroWidths, Stages

__all__ = ["NasBenchMacroSpace"]

STEM, HEAD = 32, 1280
WORDS = {0: "identity", 1: "MB3_K3", 2: "MB6_K5"}
#: Columns at which the stages begin, and the end.
BOUNDS = (0, *np.cumsum(STAGES).tolist())


class NasBenchMacroSpace(StagedSpace):
    """Networks of NAS-Bench-Macro.

    ``size`` counts all 6,561 rows. Behind the first layer of a stage an identity is nothing,
    so that only the order of the other layers tells networks apart: 3,969 distinct keys, as
    many as the benchmark trained. The representative has a stage's identities at its end.

    Args:
        name: registered name.
        width_mult: factor on the 32 channels of the stem, which each stage doubles, and on the
            1,280 of the last convolution, rounded to multiples of 8.
        **options: see :class:`~scholarch.searchspace.space.SearchSpace`.
    """

    def __init__(self, name: str, *, width_mult: float = 1.0, **options: Any) -> None:
        mult = check_width_mult(width_mult)
        self.widths = MacroWidths(divisible(STEM * mult), divisible(HEAD * mult))
        genes = [Gene(f"layer{i}", tuple(WORDS)) for i in range(1, sum(STAGES) + 1)]
        super().__init__(name, genes, width_mult=mult, **options)

    def _stages(self, arch: Architecture) -> Stages:
        row = self.canonical(self.encode([arch]))[0].tolist()
        stages = [row[begin:end] for begin, end in itertools.pairwise(BOUNDS)]
        return tuple((digits[0], *filter(None, digits[1:])) for digits in stages)

    def canonical(self, matrix: Matrix) -> Matrix:
        matrix = matrix.copy()
        for begin, end in itertools.pairwise(BOUNDS):
            rest = matrix[:, begin + 1 : end]
            order = np.argsort(rest == 0, axis=1, kind="stable")
            matrix[:, begin + 1 : end] = np.take_along_axis(rest, order, axis=1)
        return matrix

    # ------------------------------------------------------------------ costs

    def _parts(self, matrix: Matrix, resolution: int) -> list[Part]:
        side = resolution
        stem = Part("stem", side, 1.0, float(self.widths.stem))
        stem.tally.conv(self.in_channels, self.widths.stem, 3, side)
        parts = [stem]
        for i, count in enumerate(STAGES):
            digits = matrix[:, BOUNDS[i] : BOUNDS[i + 1]]
            before, side = side, halved(side, 2)
            c_in, c_out = self.widths.stage(i - 1), self.widths.stage(i)
            blocks = 1.0 + (digits[:, 1:] > 0).sum(axis=1)
            part = Part(f"stage {i + 1}", side, blocks, float(c_out))
            conv = part.tally.conv
            here = (digits[:, 0] == 0).astype(np.float64)
            conv(c_in, c_out, 1, side, side_in=before, times=here)
            for j in range(min(count, 2)):
                # The layers behind the first are equals.
                these = digits[:, 1:] if j else digits[:, :1]
                for digit in BLOCKS:
                    b = self.widths.block(i, j, digit)
                    times = (these == digit).sum(axis=1).astype(np.float64)
                    entry = side if j else before
                    conv(b.in_channels, b.mid, 1, entry, times=times)
                    conv(b.mid, b.mid, b.kernel, side, side_in=entry, times=times, depthwise=True)
                    conv(b.mid, b.out_channels, 1, side, times=times)
            parts.append(part)
        head = Part("head", side, 1.0, float(self.widths.head))
        head.tally.conv(self.widths.stage(len(STAGES) - 1), self.widths.head, 1, side)
        classifier = Part("classifier", 1, 1.0, float(self.num_classes))
        classifier.tally.linear(self.widths.head, self.num_classes)
        return [*parts, head, classifier]

    def _details(self, choices: tuple[int, ...]) -> Sequence[str]:
        words = [WORDS[digit] for digit in choices]
        stages = [
            f"{', '.join(words[begin:end])}, stride 2" for begin, end in itertools.pairwise(BOUNDS)
        ]
        return ["3×3 convolution", *stages, "1×1 convolution", "average pool, linear"]

    # ------------------------------------------------------------------ the contract

    def _format(self, choices: tuple[int, ...]) -> str:
        return "".join(map(str, choices))

    def _parse(self, text: str) -> Sequence[int]:
        if not re.fullmatch("[012]{8}", text):
            raise InvalidInputError(
                f"{text[:80]!r} is no architecture of {self.name!r}; write it like 00100211:"
                f" for each of 8 layers {', '.join(f'{d} {word}' for d, word in WORDS.items())}"
            )
        return [int(digit) for digit in text]

    def build(self, arch: Architecture, *, seed: int = 0) -> MacroNet:
        return MacroNet(
            self.widths,
            self._stages(arch),
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            seed=seed,
        )

    def supernet(self, *, seed: int = 0, init: str = "he") -> ElasticMacroNet:
        return ElasticMacroNet(
            self.widths,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            stages_of=self._stages,
            seed=seed,
            init=init,
        )


@register_space("nasbench-macro")
def nasbench_macro(name: str, **options: Any) -> NasBenchMacroSpace:
    """6,561 networks of eight layers, identities or inverted residual blocks."""
    return NasBenchMacroSpace(name, **options)
