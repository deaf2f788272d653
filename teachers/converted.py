"""A library's network as our own encoder: what it is made of, and its weights by our names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..searchspace.transformers.encoder import Encoder
from ..searchspace.transformers.stem import StemSpec
from ..searchspace.transformers.style import EncoderShape, EncoderStyle, LayerShape

__all__ = ["Converted", "equal_layers", "placed", "reordered"]

#: Tensors of a layer whose given dimension is the token stream's channels.
_STREAM = {
    **{f"{norm}.{part}": 0 for norm in ("norm1", "norm2") for part in ("weight", "bias")},
    **{f"{linear}.{part}": 0 for linear in ("proj", "fc2") for part in ("weight", "bias")},
    "qkv.weight": 1,
    "fc1.weight": 1,
    "scale1.weight": 0,
    "scale2.weight": 0,
}


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """An encoder that is about to be built.

    Attributes:
        stem: what makes tokens of the inputs.
        style: what layers share.
        shape: width and layers.
        weights: by the encoder's own names.
        num_classes: outputs of the classifier; 0: the pooled tokens are the output.
    """

    stem: StemSpec
    style: EncoderStyle
    shape: EncoderShape
    weights: Mapping[str, Tensor]
    num_classes: int = 0

    def build(self) -> Encoder:
        """The encoder with these weights, in eval mode."""
        encoder = Encoder(
            self.stem, self.style, self.shape, num_classes=self.num_classes, seed=None
        )
        encoder.load_state_dict(self.weights)
        return encoder.eval()


def equal_layers(dim: int, depth: int, heads: int, ffn: int) -> EncoderShape:
    """The shape of an encoder whose layers are all the same."""
    return EncoderShape(dim, tuple(LayerShape(heads, ffn, i) for i in range(depth)))


def placed(name: str, part: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A layer's tensors under its name in the encoder."""
    return {f"{name}.{key}": value for key, value in part.items()}


def reordered(
    weights: Mapping[str, Tensor], order: Tensor, stem: Mapping[str, int]
) -> dict[str, Tensor]:
    """The same network with the token stream's channels in another order.

    Args:
        weights: by the encoder's names.
        order: int64 ``[C]``; channel ``c`` of the result is channel ``order[c]`` as given.
        stem: dimension of the token stream's channels in the stem's tensors, by their names in
            it; a tensor that is not named has none.
    """
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        room, _, rest = name.partition(".")
        if room == "layers":
            at = _STREAM.get(rest.partition(".")[2])
        elif room == "stem":
            at = stem.get(rest)
        else:
            at = {"norm.weight": 0, "norm.bias": 0, "head.weight": 1}.get(name)
        found[name] = value if at is None else torch.index_select(value, at, order)
    return found
