"""What a tap plan reads off a network's calls: stages, final map, features, logits."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..searchspace.errors import InvalidInputError
from .layouts import as_map, is_sequence
from .tap_finder import TapPlan, classifier_weight
from .taps import Taps

__all__ = ["calls_of", "read_taps"]

#: Label of the call of the network itself.
WHOLE = ""


def calls_of(plan: TapPlan) -> set[str]:
    """Labels of the calls whose outputs a plan needs."""
    return {plan.final, *plan.stages, plan.classifier or WHOLE}


def read_taps(
    module: nn.Module,
    plan: TapPlan,
    outputs: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
    size: tuple[int, int],
    name: str,
    mask: Tensor | None = None,
) -> Taps:
    """Put what calls gave in order.

    Where the images are so small that the final map has 1×1 pixels, the deepest stage of more
    stands in for it. Without a classifier the features are what the network gives where that is
    one vector an input, else the mean of the final map. Padding is zero in every map.

    Args:
        module: what was called.
        plan: where it is measured.
        outputs: label → output of the call.
        inputs: label of the classifier → its input.
        size: height and width of the images, in pixels; of text and sound 1 and their length.
        name: of the network in messages, e.g. ``"teacher 'resnet20'"``.
        mask: which tokens are real, bool ``[B, N]``, where some are padding.

    Raises:
        InvalidInputError: if a call gave no feature map.
    """
    maps = {
        label: _unpadded(_map(label, outputs, size, name), mask)
        for label in (*plan.stages, plan.final)
    }
    stages = tuple(maps[label] for label in plan.stages)
    final = maps[plan.final]
    if final.shape[2] * final.shape[3] == 1:
        final = next((s for s in reversed(stages) if s.shape[2] * s.shape[3] > 1), final)
    label = plan.classifier
    if label is None:
        return Taps(stages, final, _features(outputs.get(WHOLE), final, size, mask))
    classifier = module.get_submodule(label.split("#")[0])
    weight = classifier_weight(classifier)
    if weight is None or label not in inputs:
        raise InvalidInputError(f"{name} has no classifier {label!r}")
    is_conv = not isinstance(classifier, nn.Linear)
    pooled, logits = (_vector(t, is_conv) for t in (inputs[label], outputs[label]))
    return Taps(stages, final, pooled, logits, weight)


def _unpadded(x: Tensor, mask: Tensor | None) -> Tensor:
    """A map of tokens with zeros where padding is; any other as it is."""
    if mask is None or x.shape[3] != mask.shape[1]:
        return x
    return x.masked_fill(~mask[:, None, None], 0.0)


def _features(
    whole: Tensor | None, final: Tensor, size: tuple[int, int], mask: Tensor | None
) -> Tensor:
    """``[B, F]`` of a network without a classifier."""
    if not is_sequence(size):
        return final.mean(dim=(2, 3))
    if whole is not None and whole.dim() == 2 and whole.is_floating_point():
        return whole
    if mask is None or final.shape[3] != mask.shape[1]:
        return final.mean(dim=(2, 3))
    return final.sum(dim=(2, 3)) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def _map(label: str, outputs: Mapping[str, Tensor], size: tuple[int, int], name: str) -> Tensor:
    output = outputs.get(label)
    found = None if output is None else as_map(output, size)
    if found is None:
        raise InvalidInputError(
            f"tap {label!r} of {name} gives no feature map for images of {size[0]}x{size[1]} pixels"
        )
    return found


def _vector(x: Tensor, is_conv: bool) -> Tensor:
    """``[B, F]`` of a classifier's input or output, averaged over what is neither."""
    if x.dim() == 2:
        return x
    return x.flatten(2).mean(dim=2) if is_conv else x.flatten(1, -2).mean(dim=1)
