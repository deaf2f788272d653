"""A network as the exporters want it: with a batch that stays open."""

from __future__ import annotations

from torch import fx, nn

from .inputs import Image
from .shaped_trace import UntraceableError, traced

__all__ = ["with_open_batch"]


def with_open_batch(network: nn.Module, image: Image) -> nn.Module:
    """The network's traced forward pass, over its own layers.

    Code that asks for ``len(images)`` fixes the batch where an exporter runs it; in the traced
    pass the batch is read off the images. A network that cannot be traced is returned as it is.

    Args:
        network: in evaluation mode.
        image: channels, height and width, or what sequences.
    """
    try:
        return fx.GraphModule(network, traced(network, image)).eval()
    except UntraceableError:
        return network
