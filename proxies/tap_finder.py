"""Where to measure a network: found by one forward pass, or named by the user.

The *trunk* is the sequence of feature maps from image to classifier. It is read off the
tree of calls: ``nn.Sequential``, and modules that hold several resolutions, are looked
into; any other module that gives out a feature map is a block whose inner maps (expanded,
not yet activated, attention) are of no interest. A network of text or sound has one resolution
and *layers*: its modules of one type of which there are most.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..searchspace.errors import InvalidInputError, UnknownNameError
from .layouts import input_size, is_sequence, map_shape
from .recorder import Call, first_tensor, record
from .stages import evenly_spaced

__all__ = ["ROLES", "TapPlan", "classifier_weight", "find_taps"]

ROLES = ("final", "classifier", "stages")

Named = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True, slots=True)
class TapPlan:
    """Where a network is measured, by labels of calls (see ``recorder.py``).

    Attributes:
        final: gives the final map.
        classifier: linear layer or 1×1 convolution that gives the logits, or ``None``.
        stages: give the last map at each resolution, shallow to deep; of text and sound those of
            evenly spaced layers.
    """

    final: str
    classifier: str | None
    stages: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data that :meth:`from_json` reads back."""
        return {"final": self.final, "classifier": self.classifier, "stages": list(self.stages)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TapPlan:
        """The plan that :meth:`to_json` wrote.

        Raises:
            InvalidInputError: if a field is missing or of another type.
        """
        final, classifier = data.get("final"), data.get("classifier")
        stages = data.get("stages")
        if (
            not isinstance(final, str)
            or not isinstance(classifier, str | None)
            or not isinstance(stages, list | tuple)
            or not all(isinstance(stage, str) for stage in stages)
        ):
            raise InvalidInputError(f"not a tap plan in JSON: {dict(data)!r}")
        return cls(final, classifier, tuple(stages))


def find_taps(module: nn.Module, images: Tensor, named: Named | None = None) -> TapPlan:
    """Find where to measure a network, by one forward pass.

    The classifier is the last linear layer, or 1×1 convolution used as one, whose output is
    the network's. The final map is the trunk's last with as many channels as the classifier
    reads, else its last; a stage is the trunk's last map of a resolution. Maps of 1×1 pixels
    are neither.

    Args:
        module: in the mode in which it will be measured; left as it is.
        images: ``[B, C, H, W]``, normalised, token ids ``[B, L]`` or a waveform ``[B, T]``; two
            are enough.
        named: role → label for the roles ``final``, ``classifier`` and ``stages`` (a
            sequence of labels); these override what is found.

    Raises:
        UnknownNameError: if a role or a label is unknown; near ones are offered.
        InvalidInputError: if a named call gives something of the wrong shape, or the network
            has no feature map.
    """
    named = dict(named or {})
    for role in named:
        if role not in ROLES:
            raise UnknownNameError("tap", role, ROLES)
    root, result = record(module, images)
    search = _Search(root, len(images), input_size(images))

    chosen = search.classifier(result)
    classifier = chosen.label if chosen is not None else None
    if "classifier" in named:
        classifier = search.named("classifier", named["classifier"])[0]
        chosen = search.call(classifier)
        if classifier_weight(chosen.module) is None:
            raise InvalidInputError(
                f"tap classifier = {classifier!r} is no linear layer or 1x1 convolution"
            )
    if "stages" in named:
        stages = search.named("stages", named["stages"])
    else:
        stages = [call.label for call in search.stages()]
    if "final" in named:
        final = search.named("final", named["final"])[0]
    else:
        weight = classifier_weight(chosen.module) if chosen is not None else None
        final = search.final(None if weight is None else weight.shape[1]).label
    return TapPlan(final, classifier, tuple(stages))


def classifier_weight(module: nn.Module | None) -> Tensor | None:
    """The weight ``[K, F]`` of a linear layer or 1×1 convolution; ``None`` for any other."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        return None
    if weight.dim() == 4 and weight.shape[2:] == (1, 1) and getattr(module, "groups", 1) == 1:
        return weight.detach().flatten(1)
    return weight.detach() if isinstance(module, nn.Linear) or weight.dim() == 2 else None


class _Search:
    """The calls of one forward pass and what can be told from their shapes."""

    def __init__(self, root: Call, batch: int, image: tuple[int, int]) -> None:
        self.root = root
        self.image = image
        self.batch = batch
        self.calls = [call for call in _descend(root) if call is not root]
        self.trunk = [call for call in self._trunk(root) if self._area(call) > 1]

    def _map(self, call: Call) -> tuple[int, int, int] | None:
        return self._map_shape(call.out_shape)

    def _map_shape(self, shape: tuple[int, ...] | None) -> tuple[int, int, int] | None:
        # Windows of an attention count as images of their own: not the batch's number.
        if shape is None or shape[:1] != (self.batch,):
            return None
        return map_shape(shape, self.image)

    def _area(self, call: Call) -> int:
        shape = self._map(call)
        return 0 if shape is None else shape[1] * shape[2]

    def _trunk(self, call: Call) -> list[Call]:
        """Calls inside ``call`` that give the trunk's maps, in the order in which they end."""
        maps = []
        for child in call.children:
            # These change nothing; the map is better known by where it came from.
            if isinstance(child.module, nn.Identity | nn.modules.dropout._DropoutNd):
                continue
            inner = self._trunk(child) if child.children else []
            if not self._is_block(child, inner):
                maps += inner
            if self._map(child) is not None:
                maps.append(child)
        return maps

    def _is_block(self, call: Call, inner: list[Call]) -> bool:
        out = self._map(call)
        if out is None or type(call.module) is nn.Sequential:
            return False
        # What is given the image itself is a whole backbone or a stem.
        if call.in_shape == self.root.in_shape:
            return False
        # A stage has the resolution that goes in and the one that comes out; a backbone has
        # more in between. Attention's maps are of any size and do not count.
        given = self._map_shape(call.in_shape) or out
        low, high = sorted((out[1] * out[2], given[1] * given[2]))
        sizes = {size[1:] for child in inner if (size := self._map(child)) is not None}
        return len([1 for h, w in sizes if low <= h * w <= high]) < 3

    def _in_block(self, call: Call) -> bool:
        """Whether a call is part of what gives a feature map, as squeeze-and-excitation is."""
        parent = call.parent
        while parent is not None and parent is not self.root:
            if self._area(parent) > 1:
                return True
            parent = parent.parent
        return False

    def classifier(self, result: object) -> Call | None:
        """The last linear layer or 1×1 convolution whose output is the network's."""
        candidates = [
            call
            for call in reversed(self.calls)
            if call.output is not None and classifier_weight(call.module) is not None
        ]
        outputs = _tensors(result)
        for tensor in outputs:
            for call in candidates:
                if _equal(tensor, call.output):
                    return call
        logits = next((t for t in outputs if all(side == 1 for side in t.shape[2:])), None)
        if logits is None:
            return None
        # Softmax, or a mean over several heads, follows: go by the number of classes.
        classes = logits.shape[1]
        for call in candidates:
            if _classes(call) == classes and not self._in_block(call):
                return call
        # SqueezeNet's classifier is a convolution before pooling.
        weighted = [call for call in self.calls if isinstance(call.module, nn.Conv2d | nn.Linear)]
        if weighted and self._area(weighted[-1]) > 1 and not self._in_block(weighted[-1]):
            weight = classifier_weight(weighted[-1].module)
            if weight is not None and len(weight) == classes:
                return weighted[-1]
        return None

    def final(self, channels: int | None) -> Call:
        """The trunk's last map of so many channels, else its last."""
        self._need_trunk()
        for call in reversed(self.trunk):
            if (shape := self._map(call)) is not None and shape[0] == channels:
                return call
        return self.trunk[-1]

    def stages(self) -> list[Call]:
        """The trunk's last map at each resolution, in order; of tokens evenly spaced layers."""
        self._need_trunk()
        if is_sequence(self.image):
            return evenly_spaced(self._layers())
        last: dict[tuple[int, int], Call] = {}
        for call in self.trunk:
            if (shape := self._map(call)) is not None:
                last.pop(shape[1:], None)  # so that it moves to the end
                last[shape[1:]] = call
        return list(last.values())

    def _layers(self) -> list[Call]:
        """Modules of one type that map tokens to as many of equal width, the most there are.

        Of types that are equally many, parts of each other, the outermost.
        """
        alike: dict[tuple[type[nn.Module], int], list[Call]] = {}
        for call in self.calls:
            module = call.module
            if module is None or not any(True for _ in module.children()):
                continue
            if call.in_shape == call.out_shape and self._map(call) is not None:
                alike.setdefault((type(module), _depth(call)), []).append(call)
        if not alike:
            last = self._map(self.trunk[-1])
            return [call for call in self.trunk if self._map(call) == last]
        return max(alike.items(), key=lambda item: (len(item[1]), -item[0][1]))[1]

    def _need_trunk(self) -> None:
        if not self.trunk and is_sequence(self.image):
            raise InvalidInputError(
                f"this network has no tokens: no layer gives out [B, N, C] for an input of"
                f" {self.image[1]} tokens or samples; a Transformer is needed"
            )
        if not self.trunk:
            raise InvalidInputError(
                "this network has no feature map: no layer gives out more than 1x1 pixels for"
                f" images of {self.image[0]}x{self.image[1]}; a convolutional network or a vision"
                " transformer is needed"
            )

    def named(self, role: str, labels: str | Sequence[str]) -> list[str]:
        """The user's labels for a role, each checked."""
        wanted = [labels] if isinstance(labels, str) else list(labels)
        if not wanted or (role != "stages" and len(wanted) != 1):
            raise InvalidInputError(f"tap {role} = {labels!r}; need the name of one module")
        for label in wanted:
            call = self.call(label)
            if role != "classifier" and self._area(call) < 2:
                shape = list(call.out_shape) if call.out_shape is not None else "no tensor"
                raise InvalidInputError(
                    f"tap {role} = {label!r} gives out {shape}; need a feature map"
                    " [B, C, h, w] of more than 1x1 pixels"
                )
        return wanted

    def call(self, label: str) -> Call:
        """The last call that answers to a label."""
        for call in reversed(self.calls):
            if label in call.aliases():
                return call
        known = {call.label for call in self.calls} | {call.base for call in self.calls}
        raise UnknownNameError("module for a tap", label, known)


def _descend(call: Call) -> Iterator[Call]:
    """A call and all inside it, in the order in which they end."""
    for child in call.children:
        yield from _descend(child)
    yield call


def _depth(call: Call) -> int:
    """How many calls a call is inside of."""
    return 0 if call.parent is None else 1 + _depth(call.parent)


def _tensors(result: object) -> list[Tensor]:
    """Tensors that a network returned, the likeliest logits first."""
    if isinstance(result, Mapping):
        # Hugging Face's outputs and many detection-style wrappers are mappings.
        first = [result[key] for key in ("logits", "output", "out") if key in result]
        return [t for value in (*first, *result.values()) for t in _tensors(value)]
    if isinstance(result, tuple | list):
        return [tensor for item in result for tensor in _tensors(item)]
    tensor = first_tensor(result)
    return [] if tensor is None or tensor.dim() < 2 else [tensor]


def _equal(tensor: Tensor, output: Tensor | None) -> bool:
    if output is None or tensor.numel() != output.numel():
        return False
    return torch.equal(tensor.flatten(1), output.flatten(1))


def _classes(call: Call) -> int:
    return call.out_shape[1] if call.out_shape is not None else 0
