"""What once-for-all's networks call their tensors, and what ours do."""

from __future__ import annotations

import itertools
import re

from ..searchspace.elastic import ElasticConv2d, ElasticNetwork

__all__ = ["LAYERS", "MATRIX", "layer_names", "plain_name"]

MATRIX = re.compile(r"\.(\d+)to(\d+)_matrix$")

#: Our layers' names and theirs, by layout; one of a gate's layers is an ``expand``, too.
_MOBILE = (
    (r"^stem\.", "first_conv."),
    (r"^first\.", "blocks.0.conv."),
    (r"\.gate\.", ".depth_conv.se.fc."),
    (r"^(blocks\.\d+\.conv)\.expand\.", r"\1.inverted_bottleneck."),
    (r"\.depthwise\.", ".depth_conv."),
    (r"\.project\.", ".point_linear."),
)
_RESNET = (
    (r"^stem_in\.", "input_stem.0."),
    (r"^stem_block\.", "input_stem.1.conv."),
    (r"^stem_out\.", "input_stem.2."),
    (r"\.reduce\.", ".conv1."),
    (r"^(blocks\.\d+)\.conv\.", r"\1.conv2."),
    (r"\.expand\.", ".conv3."),
    (r"\.project\.", ".downsample."),
)
_V3_HEAD = ((r"^head\.", "final_expand_layer."), (r"^mix\.", "feature_mix_layer.conv."))
LAYERS = {
    "OFAMobileNetV3": (*_MOBILE, *_V3_HEAD),
    "OFAProxylessNASNets": (*_MOBILE, (r"^head\.", "feature_mix_layer.")),
    "OFAResNets": _RESNET,
}
SHARED = ((r"\.norm\.", ".bn."), (r"^classifier\.", "classifier.linear."))


def plain_name(name: str) -> str:
    """A name as no release writes it: the latest word for a block, and no doubled parts.

    Their elastic layers wrap plain ones of the same name, ``bn.bn`` or ``conv.conv``, by release,
    phase of training and layer; what is doubled says nothing.

    Example:
        >>> plain_name("blocks.1.mobile_inverted_conv.depth_conv.conv.conv.weight")
        'blocks.1.conv.depth_conv.conv.weight'
    """
    name = name.replace(".mobile_inverted_conv.", ".conv.")
    return ".".join(part for part, _ in itertools.groupby(name.split(".")))


def layer_names(network: ElasticNetwork, layout: str) -> dict[str, str]:
    """Our names of all tensors → theirs, plain.

    Args:
        network: of the layout.
        layout: a name of :data:`LAYERS`.
    """
    keys = list(network.state_dict())
    blocks = sorted({_block(key) for key in keys if key.startswith("stages.")})
    matrices = {
        f"{name}.to_{smaller}": f"{larger}to{smaller}_matrix"
        for name, module in network.named_modules()
        if isinstance(module, ElasticConv2d)
        for larger, smaller in itertools.pairwise(module.sides)
    }
    names = {}
    for key in keys:
        name = key
        if key in matrices:
            name = f"{key.rpartition('.')[0]}.{matrices[key]}"
        if key.startswith("stages."):
            # Theirs are counted through; block 0 of the MobileNets is the fixed one.
            number, rest = blocks.index(_block(key)), name.split(".", 3)[3]
            is_resnet = layout == "OFAResNets"
            name = f"blocks.{number}.{rest}" if is_resnet else f"blocks.{number + 1}.conv.{rest}"
        for ours, theirs in (*LAYERS[layout], *SHARED):
            name = re.sub(ours, theirs, name)
        names[key] = plain_name(name)
    return names


def _block(key: str) -> tuple[int, int]:
    _, stage, index, _ = key.split(".", 3)
    return int(stage), int(index)
