"""What a tap plan reads off a network's calls: stages, final map, features, logits."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..searchspace.errors import InvalidInputError
from .layouts import as_map
from .tap_finder import TapPlan, classifier_weight
from .taps import Taps

__all__ = ["calls_of", "read_taps"]


def calls_of(plan: TapPlan) -> set[str]:
    """Labels of the calls whose outputs a plan needs."""
    return {plan.final, *plan.stages, *([plan.classifier] if plan.classifier else [])}


def read_taps(
    module: nn.Module,
    plan: TapPlan,
    outputs: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
    size: tuple[int, int],
    name: str,
) -> Taps:
    """Put what calls gave in order.

    Where the images are so small that the final map has 1×1 pixels, the deepest stage of more
    stands in for it. Without a classifier the features are the mean of the final map.

    Args:
        module: what was called.
        plan: where it is measured.
        outputs: label → output of the call.
        inputs: label of the classifier → its input.
        size: height and width of the images, in pixels.
        name: of the network in messages, e.g. ``"teacher 'resnet20'"``.

    Raises:
        InvalidInputError: if a call gave no feature map.
    """
    maps = {label: _map(label, outputs, size, name) for label in (*plan.stages, plan.final)}
    stages = tuple(maps[label] for label in plan.stages)
    final = maps[plan.final]
    if final.shape[2] * final.shape[3] == 1:
        final = next((s for s in reversed(stages) if s.shape[2] * s.shape[3] > 1), final)
    label = plan.classifier
    if label is None:
        return Taps(stages, final, final.mean(dim=(2, 3)))
    classifier = module.get_submodule(label.split("#")[0])
    weight = classifier_weight(classifier)
    if weight is None or label not in inputs:
        raise InvalidInputError(f"{name} has no classifier {label!r}")
    is_conv = not isinstance(classifier, nn.Linear)
    pooled, logits = (_vector(t, is_conv) for t in (inputs[label], outputs[label]))
    return Taps(stages, final, pooled, logits, weight)


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
