"""Which inputs are alike, layer by layer, in student and teacher."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from .diswot import teacher_of
from .kd_matching import KD_NEEDS
from .kd_relations import debiased_cka
from .probe import BlockProbe, Probe, TeacherSide
from .registry import register_proxy
from .tokens import layer_map, pooled_tokens

__all__ = ["sample_relations"]

_ENDS = frozenset({"stem", "head"})


def _pooled(mask: Tensor | None, block: BlockProbe) -> Tensor:
    """The mean over a block's positions, over real ones alone where there is padding."""
    out = block.output.detach()
    if mask is None or out.shape[2] != 1 or out.shape[3] != mask.shape[1]:
        return out.mean(dim=(2, 3))
    return pooled_tokens(out.squeeze(2).transpose(1, 2), mask)


def _teacher_layers(teacher: TeacherSide) -> list[Tensor]:
    tokens = teacher.taps.tokens
    if tokens is not None and tokens.layers:
        return [pooled_tokens(x, tokens.mask) for x in tokens.layers[1:]]
    return [stage.mean(dim=(2, 3)) for stage in teacher.taps.stages]


@register_proxy(
    "sample-relations",
    source="CKA (Kornblith et al., ICML 2019), debiased: Nguyen et al., ICLR 2021",
    needs=KD_NEEDS | {"teacher_tokens"},
    images=4,
)
def sample_relations(probe: Probe) -> float:
    """Debiased linear CKA of the inputs' mean tokens or positions, mean over layers.

    Layers of a convnet are its blocks. The teacher's layers, its stages where it has no tokens,
    are matched by relative depth, the last with the last.
    """
    references = teacher_of(probe).memo("sample_relations", _teacher_layers)
    blocks = [block for block in probe.blocks if block.step.kind not in _ENDS]
    total = 0.0
    for block, j in zip(blocks, layer_map(len(blocks), len(references)), strict=True):
        features = block.memo("pooled_tokens", partial(_pooled, probe.mask))
        total += debiased_cka(features, references[j])
    return total / len(blocks)
