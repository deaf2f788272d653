"""The outline of a convolutional teacher, from which a space of its students is derived.

Stages are told apart by resolution, blocks counted by their spatial convolutions (wider
than 1×1): two to a ``basic`` block, one to a ``bottleneck`` or an ``mbconv``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor, nn

from ..searchspace.convnets.derived import TeacherShape
from ..searchspace.errors import InvalidInputError
from .recorder import Call, record
from .teacher import FORWARD_ERRORS

__all__ = ["find_teacher_shape"]

#: Convolutions behind the first that still count as stem, if a pooling follows them.
DEEP_STEM = 2


def find_teacher_shape(module: nn.Module, images: Tensor) -> TeacherShape:
    """Measure stages, widths, depths and strides of a network, by one forward pass.

    Args:
        module: in eval mode; left as it is.
        images: ``[B, C, H, W]`` of the size it was made for; one is enough, values do not
            matter.

    Raises:
        InvalidInputError: if the network does not run on such images, or has no stages of
            convolutions, as vision transformers have none.
    """
    try:
        root, _ = record(module, images)
    except FORWARD_ERRORS as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InvalidInputError(
            f"the network does not run on images {list(images.shape[1:])}: {first}"
        ) from error
    return _Outline(root, int(images.shape[2]) * int(images.shape[3])).shape()


class _Outline:
    """What the calls of one forward pass tell of a network's stages."""

    def __init__(self, root: Call, area: int) -> None:
        self.area = area
        self.calls = list(_descend(root))
        convs = [call for call in self.calls if isinstance(call.module, nn.Conv2d)]
        spatial = [call for call in convs if _side(call) > 1 and _keeps_map(call)]
        self.stem, self.spatial = spatial[:1], spatial[1:]
        maps = [call for call in convs if _pixels(call) > 1 and _side(call) == 1]
        self.pointwise = [self.level(call) for call in maps]
        depthwise = [call for call in self.spatial if _is_depthwise(call)]
        if 2 * len(depthwise) >= len(self.spatial):
            self.kind = "mbconv"
            levels = {self.level(call) for call in depthwise}
            # EfficientNetV2's early blocks fuse the depthwise convolution with a 1×1.
            fused = [call for call in self.spatial if self.level(call) not in levels]
            self.spatial = fused + depthwise
        elif len(self.pointwise) >= len(self.spatial):
            self.kind = "bottleneck"
            # A stem of several 3×3 has no 1×1 beside them.
            self.spatial = [c for c in self.spatial if self.level(c) in self.pointwise]
        else:
            self.kind = "basic"
            self._enter_deep_stem()

    def level(self, call: Call) -> int:
        """How often the image's side has been halved in what a call gives out."""
        return max(0, round(math.log2(self.area / max(1, _pixels(call))) / 2))

    def _enter_deep_stem(self) -> None:
        """Take what stands before the first pooling for the stem, if it is short."""
        level = self.level(self.stem[0])
        first = [call for call in self.spatial if self.level(call) == level]
        deeper = [call for call in self.spatial if self.level(call) > level]
        strided = any(_stride(call) > 1 for call in deeper if self.level(call) == level + 1)
        if deeper and not strided and len(first) <= DEEP_STEM:
            self.spatial = deeper

    def shape(self) -> TeacherShape:
        """Stages in order of their levels."""
        tokens = [
            call
            for call in self.calls
            if isinstance(call.module, nn.Linear) and len(call.out_shape or ()) == 3
        ]
        if not self.spatial or len(tokens) > len(self.spatial):
            raise InvalidInputError(
                "this network has no stages of convolutions to derive a space of students from,"
                " as a vision transformer has none; name a space, for such teachers one of"
                " transformers"
            )
        blocks: dict[int, int] = {}
        for call in self.spatial:
            blocks[self.level(call)] = blocks.get(self.level(call), 0) + 1
        widths = self._widths()
        levels = sorted(blocks)
        stages = []
        for before, level in zip([levels[0], *levels], levels, strict=False):
            depth = blocks[level] if self.kind != "basic" else -(-blocks[level] // 2)
            stages.append((widths[level], depth, 2 ** (level - before)))
        return TeacherShape(2 ** levels[0], tuple(stages), self.kind)

    def _widths(self) -> dict[int, int]:
        """Channels that each level ends with: of its last call with a counted one inside."""
        counted = set(map(id, self.spatial))
        widths: dict[int, int] = {}
        # Levels of the counted calls inside each call.
        inside: dict[int, set[int]] = {}
        for call in self.calls:
            found = {self.level(call)} if id(call) in counted else set[int]()
            for child in call.children:
                found |= inside[id(child)]
            inside[id(call)] = found
            if len(found) > 1 and _is_widening(call.children[-1], inside):
                continue
            if call.out_shape and len(call.out_shape) == 4 and self.level(call) in found:
                widths[self.level(call)] = call.out_shape[1]
        return widths


def _is_widening(last: Call, inside: dict[int, set[int]]) -> bool:
    """Whether several stages end in a block of 1×1 alone, with which MobileNets widen."""
    return bool(last.children) and not inside[id(last)] and _pixels(last) > 1


def _descend(call: Call) -> Iterator[Call]:
    """A call and all inside it, in the order in which they end."""
    for child in call.children:
        yield from _descend(child)
    yield call


def _conv(call: Call) -> nn.Conv2d:
    assert isinstance(call.module, nn.Conv2d)
    return call.module


def _side(call: Call) -> int:
    return int(max(_conv(call).kernel_size))


def _stride(call: Call) -> int:
    return int(max(_conv(call).stride))


def _is_depthwise(call: Call) -> bool:
    return _conv(call).groups == _conv(call).in_channels > 1


def _pixels(call: Call) -> int:
    shape = call.out_shape or ()
    return int(shape[2]) * int(shape[3]) if len(shape) == 4 else 0


def _keeps_map(call: Call) -> bool:
    """Whether a convolution shrinks the map by no more than its stride and its margins.

    VGG's first fully connected layer may come as a convolution over the whole map.
    """
    given = call.in_shape or ()
    if len(given) != 4 or not _pixels(call):
        return False
    return math.sqrt(_pixels(call)) * _stride(call) * 2 >= math.sqrt(given[2] * given[3])
