"""LightHuBERT: what the teacher's last layers have in common, seen or masked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ....proxies.token_reader import attention_layers
from ....proxies.tokens import common_mask, masked_mean, on_one_grid
from ..checks import positive, share, whole
from ..distiller import Distiller, Pair, Sides, register_distiller
from ..layers import generator_of, linear
from ..matching import token_shapes, token_taps

__all__ = ["LightHuBERT", "spans"]

EPS = 1e-5


@register_distiller("lighthubert")
class LightHuBERT(Distiller):
    """LightHuBERT: L1 to the mean of the teacher's last layers (Wang et al., Interspeech 2022, §3).

    The target is data2vec's (Baevski et al., ICML 2022, §3.3): each layer's tokens normalised,
    here as its text and vision models by a layer norm without parameters, then averaged. One
    learnt linear map leads from the student's last layer to it. With ``mask`` 0 it is stage 1,
    all tokens seen. Stage 2 replaces spans of what the student's first layer is given by a
    learnt vector, at .65, and compares the masked tokens alone: HuBERT masks in front of its
    positional convolution, this behind the whole stem, which every modality has.

    The paper has no labels; here they train the classifier, which no token reaches.

    Args:
        sides: shapes.
        weight: of the loss.
        layers: how many of the teacher's last layers; all where it has fewer.
        mask: share of an input's tokens in spans, overlaps counted twice; 0: none are masked.
        length: of a span, in tokens.
    """

    reads = frozenset({"tokens"})
    zero_at_teacher = False
    drawn: Tensor

    def __init__(
        self,
        sides: Sides,
        *,
        weight: float = 1.0,
        layers: int = 8,
        mask: float = 0.0,
        length: int = 10,
    ) -> None:
        super().__init__()
        self.weight = positive("weight", weight)
        self.mask = share("mask", mask)
        self.length = whole("length", length)
        student, teacher = token_shapes(sides)
        self.layers = min(whole("layers", layers), len(teacher.widths) - 1)
        generator = generator_of(sides.seed)
        self.head = linear(student.widths[-1], teacher.widths[-1], generator)
        self.vector: nn.Parameter | None = None
        if self.mask:
            drawn = torch.empty(student.widths[0]).uniform_(generator=generator)  # as HuBERT's
            self.vector = nn.Parameter(drawn)
        self.seed = sides.seed
        self.register_buffer("drawn", torch.zeros((), dtype=torch.int64))
        self._masked: Tensor | None = None

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        student, teacher = token_taps(pair)
        layers = teacher.layers[-self.layers :]
        normed = [functional.layer_norm(x.detach(), x.shape[-1:], eps=EPS) for x in layers]
        target = torch.stack(normed).mean(dim=0)
        given, target = on_one_grid(self.head(student.layers[-1]), target, student, teacher)
        compared = common_mask(student, teacher, given.shape[1])
        masked, self._masked = self._masked, None
        if masked is not None and masked.shape == given.shape[:2]:
            compared = masked if compared is None else masked & compared
        return self.weight * masked_mean((given - target).abs(), compared)

    def around(self, student: nn.Module) -> AbstractContextManager[None]:
        """Spans of the student's tokens are masked, in stage 2."""
        return self._masking(student) if self.mask else nullcontext()

    @contextmanager
    def _masking(self, student: nn.Module) -> Iterator[None]:
        first = student.get_submodule(attention_layers(student)[0].name)
        hook = first.register_forward_pre_hook(self._replace)
        try:
            yield
        finally:
            hook.remove()

    def _replace(self, _module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        tokens, *rest = args
        real = rest[0] if rest and isinstance(rest[0], Tensor) else None
        count, n = tokens.shape[:2]
        lengths = [n] * count if real is None else real.sum(dim=1).tolist()
        # Each step its own; what was drawn is kept in checkpoints by its number.
        generator = generator_of(self.seed * 1_000_003 + int(self.drawn))
        self.drawn += 1
        rows = [spans(int(one), n, self.mask, self.length, generator) for one in lengths]
        self._masked = torch.stack(rows).to(tokens.device)
        vector = cast(nn.Parameter, self.vector).to(tokens.dtype)
        return torch.where(self._masked.unsqueeze(-1), vector, tokens), *rest


def spans(real: int, total: int, portion: float, length: int, generator: torch.Generator) -> Tensor:
    """Which tokens of an input are masked, bool ``[total]``.

    As many spans as make up ``portion`` of the real tokens, at least one, from starts of which
    none is drawn twice; they may overlap (wav2vec 2.0: Baevski et al., NeurIPS 2020, §4.2).

    Args:
        real: tokens in front of the padding.
        total: all of them.
        portion: of the real tokens.
        length: of a span; cut where the input is shorter.
        generator: of the starts.
    """
    length = max(1, min(length, real))
    places = max(1, real - length + 1)
    # Rounded up or down by chance, so that portions are right on average.
    many = int(portion * real / length + float(torch.rand((), generator=generator)))
    starts = torch.randperm(places, generator=generator)[: max(1, many)]
    masked = torch.zeros(total, dtype=torch.bool)
    masked[(starts.unsqueeze(1) + torch.arange(length)).flatten()] = True
    masked[real:] = False
    return masked
