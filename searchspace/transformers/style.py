"""What all layers of an encoder have in common, and what tells one encoder from another."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor
from torch.nn import functional

from ..errors import InvalidInputError

__all__ = [
    "ACTIVATIONS",
    "NORMS",
    "POOLS",
    "EncoderShape",
    "EncoderStyle",
    "LayerShape",
    "direction",
    "quick_gelu",
]


def quick_gelu(x: Tensor) -> Tensor:
    """GELU as CLIP has it, x · σ(1.702 x) (Hendrycks & Gimpel, 2016, §2)."""
    return x * (1.702 * x).sigmoid()


def direction(x: Tensor) -> Tensor:
    """Vectors ``[B, F]`` at length √F: their numbers are about 1, as a layer norm's are."""
    return functional.normalize(x, dim=-1) * math.sqrt(x.shape[-1])


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "quick_gelu": quick_gelu,
    "relu": functional.relu,
}
NORMS = ("pre", "post")
POOLS = ("mean", "first", "patches")


class LayerShape(NamedTuple):
    """A layer of one encoder.

    Attributes:
        heads: of its attention, all of the style's width.
        ffn: features inside its feed-forward part.
        source: which of the supernet's layers it takes its weights from.
    """

    heads: int
    ffn: int
    source: int


class EncoderShape(NamedTuple):
    """What tells one encoder of a space from another.

    Attributes:
        dim: width of the tokens.
        layers: shallow to deep.
    """

    dim: int
    layers: tuple[LayerShape, ...]


@dataclass(frozen=True, slots=True)
class EncoderStyle:
    """What encoders of a space share.

    Attributes:
        norm: ``"pre"``: x + f(norm(x)), as ViTs; ``"post"``: norm(x + f(x)), as BERT.
        activation: of the feed-forward part, one of :data:`ACTIVATIONS`.
        eps: of every layer norm.
        head_dim: width of a head; attention is heads · head_dim wide, whatever the tokens are.
        layer_scale: each branch is scaled by a learned vector (Touvron et al., ICCV 2021).
        relative: largest distance of two-dimensional relative positions, in patches; 0: none.
        final_norm: whether a layer norm follows the last layer.
        pool: what is classified: ``"mean"`` of the real tokens, the ``"first"`` token, the mean
            of ``"patches"``, all but the first.
        embed: width of an embedding, a linear layer's, between the pool and the classifier, which
            is given its :func:`direction` alone, as a two-tower network's image tower has it
            (CLIP: Radford et al., ICML 2021, §2.3); 0: none.

    Raises:
        InvalidInputError: if a value is none of those known.
    """

    norm: str = "pre"
    activation: str = "gelu"
    eps: float = 1e-6
    head_dim: int = 64
    layer_scale: bool = False
    relative: int = 0
    final_norm: bool = True
    pool: str = "mean"
    embed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("norm", NORMS), ("activation", tuple(ACTIVATIONS)), ("pool", POOLS)):
            value = getattr(self, name)
            if value not in known:
                raise InvalidInputError(f"{name} = {value!r}; need one of {', '.join(known)}")
        if type(self.head_dim) is not int or self.head_dim < 1:
            raise InvalidInputError(f"head_dim = {self.head_dim!r}; need a whole number from 1")
        for name in ("relative", "embed"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise InvalidInputError(f"{name} = {value!r}; need a whole number from 0")

    def to_json(self) -> dict[str, Any]:
        """Plain data: the fields."""
        return asdict(self)
