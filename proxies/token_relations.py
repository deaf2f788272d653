"""Relations between an input's tokens, in student and teacher.

MiniLMv2's objective (Wang et al., Findings of ACL 2021) as a score of a student that was not
trained. Heads are split again into as many on both sides, tokens of images brought to one grid.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from .diswot import teacher_of
from .layouts import map_shape
from .probe import BlockProbe, Probe, TeacherSide
from .registry import register_proxy
from .taps import TokenTaps
from .tokens import (
    common_heads,
    common_mask,
    concatenated,
    layer_map,
    on_one_grid,
    products,
    relation_divergence,
)

__all__ = ["token_relations", "transformer_layers"]

#: Most relation heads, MiniLMv2's.
RELATION_HEADS = 48

#: Inputs whose tokens are related: each alone tells as much as there are pairs of its tokens.
MOST_INPUTS = 16

#: Outputs that a Transformer's layer leaves: of qkv, proj, fc1 and fc2.
LINEAR = 4


def transformer_layers(probe: Probe) -> list[BlockProbe]:
    """The probe's blocks that are layers of a Transformer, shallow to deep.

    Their :attr:`BlockProbe.maps` are the outputs of ``qkv``, ``proj``, ``fc1`` and ``fc2``.
    """
    return [block for block in probe.blocks if len(block.maps) == LINEAR]


def _tokens(probe: Probe, block: BlockProbe) -> TokenTaps:
    """The student's mask and grid behind a block."""
    tokens = block.output.shape[3]
    grid = None
    if probe.modality == "image" and probe.images is not None:
        size = (int(probe.images.shape[2]), int(probe.images.shape[3]))
        found = map_shape((1, tokens, 1), size)
        grid = None if found is None else found[1:]
    return TokenTaps(mask=probe.mask, grid=grid)


def _streams(block: BlockProbe, *, attention: bool) -> list[Tensor]:
    """What of a student's layer is related, ``[B, N, W]`` each."""
    if attention:
        qkv = block.maps[0].detach().squeeze(2).transpose(1, 2)
        return list(qkv.chunk(3, dim=2))
    return [_normal(block.output.detach().squeeze(2).transpose(1, 2))]


def _normal(x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:])


def _teacher_streams(index: int, teacher: TeacherSide) -> tuple[list[Tensor], TokenTaps]:
    """Queries, keys and values of a layer, or, where there are none, a map's positions."""
    tokens = teacher.taps.tokens
    if tokens is not None and tokens.qkv:
        return [concatenated(x) for x in tokens.qkv[index].unbind(1)], tokens
    stage = teacher.taps.stages[index]
    grid = (int(stage.shape[2]), int(stage.shape[3]))
    side = TokenTaps(grid=None if grid[0] == 1 else grid)
    return [_normal(stage.flatten(2).transpose(1, 2))], side


def _has_attention(teacher: TeacherSide) -> bool:
    tokens = teacher.taps.tokens
    return tokens is not None and bool(tokens.qkv)


@register_proxy(
    "token-relations",
    source="MiniLMv2 (Wang et al., Findings of ACL 2021, §3.1)",
    needs={"forward", "maps", "attention", "teacher", "teacher_tokens"},
    direction=-1,
)
def token_relations(probe: Probe) -> float:
    """KL of token relations under queries, keys and values, mean over layers.

    The teacher's layers are matched by relative depth, the last with the last; padding is left
    out. Of a teacher without attention, the positions of its maps are related, normalised, and
    compared with the student's tokens likewise.
    """
    teacher = teacher_of(probe)
    tokens = teacher.taps.tokens if _has_attention(teacher) else None
    count = len(teacher.taps.stages if tokens is None else tokens.qkv)
    layers = transformer_layers(probe)
    losses = [
        block.memo(f"token_relations_{j}", partial(_loss, probe, teacher, j))
        for block, j in zip(layers, layer_map(len(layers), count), strict=True)
    ]
    return sum(losses) / len(losses)


def _loss(probe: Probe, teacher: TeacherSide, index: int, block: BlockProbe) -> float:
    """Of a student's layer and a teacher's, mean over what is related."""
    streams, other = teacher.memo(f"token_streams_{index}", partial(_teacher_streams, index))
    given = _streams(block, attention=_has_attention(teacher))
    own = _tokens(probe, block)
    losses = [_divergence(s, t, own, other) for s, t in zip(given, streams, strict=True)]
    return float(torch.stack(losses).mean())


def _divergence(s: Tensor, t: Tensor, own: TokenTaps, other: TokenTaps) -> Tensor:
    s, t = on_one_grid(s[:MOST_INPUTS], t[:MOST_INPUTS], own, other)
    heads = common_heads(s.shape[2], t.shape[2], RELATION_HEADS)
    mask = common_mask(own, other, s.shape[1])
    mask = None if mask is None else mask[:MOST_INPUTS]
    return relation_divergence(products(s, s, heads), products(t, t, heads), mask)
