"""The one set of measurements that serves every proxy.

A :class:`Probe` is a candidate seen through one shared forward pass and, where a proxy asks,
one shared backward. Candidates with a common prefix of steps share its
:class:`BlockProbe` objects, and with them whatever a proxy remembered there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..searchspace.architecture import Architecture
from ..searchspace.elastic import ElasticNetwork, Step, Trace
from .batch import Batch
from .taps import Taps

__all__ = ["BlockProbe", "Probe", "TeacherSide", "ValueGradient"]

T = TypeVar("T")


class _Memo:
    """Values computed once, by name."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def get(self, name: str, compute: Callable[[], T]) -> T:
        if name not in self._values:
            self._values[name] = compute()
        return cast(T, self._values[name])


class TeacherSide:
    """The teacher's measurements on the batch, and what proxies derive from them, once a run.

    Attributes:
        taps: of the teacher on the batch's images.
        labels: of the batch, ``[B]``.
    """

    def __init__(self, taps: Taps, labels: Tensor) -> None:
        self.taps = taps
        self.labels = labels
        self._memo = _Memo()

    def memo(self, name: str, compute: Callable[[TeacherSide], T]) -> T:
        """``compute(self)``, the first time it is asked for under ``name``."""
        return self._memo.get(name, lambda: compute(self))


@dataclass(slots=True, eq=False)
class BlockProbe:
    """One step of the forward pass, shared by every candidate with the same prefix.

    Attributes:
        step: what was computed.
        output: ``[B, C, H, W]``.
        relus: outputs of the ReLUs inside, where a proxy needs them.
        weights: the weight slices used, where a proxy needs gradients.
        maps: outputs of the convolutions inside, where a proxy needs them.
    """

    step: Step
    output: Tensor
    relus: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    maps: list[Tensor] = field(default_factory=list)
    _memo: _Memo = field(default_factory=_Memo)

    def memo(self, name: str, compute: Callable[[BlockProbe], T]) -> T:
        """``compute(self)``, the first time it is asked for under ``name``."""
        return self._memo.get(name, lambda: compute(self))


@dataclass(frozen=True, slots=True, eq=False)
class ValueGradient:
    """A tensor, of weights at He initialisation or of activations, and the gradient there."""

    value: Tensor
    grad: Tensor


@dataclass(eq=False)
class Probe:
    """A candidate and everything a proxy may ask about it.

    Weights are N(0, 1), the released DisWOT code's initialisation; batch norm uses the
    statistics of the batch, scale 1 and shift 0, so no map depends on the weights' scale. The
    few weights that no batch norm follows (gates, behind the pool) are taken at He scale:
    gates under N(0, 1) would all be open or shut.

    Attributes:
        arch: the candidate.
        costs: its costs by name.
        batch: the images and labels.
        blocks: the steps of the forward pass, shallow to deep; empty without a forward.
        network: the nested network that holds it.
        teacher: the teacher's side, or ``None``.
        seed: of the weights.
        images: what the first step was given, ``[B, C, H, W]``, normalised.
    """

    arch: Architecture
    costs: Mapping[str, float]
    batch: Batch | None = None
    blocks: tuple[BlockProbe, ...] = ()
    network: ElasticNetwork | None = None
    teacher: TeacherSide | None = None
    seed: int = 0
    images: Tensor | None = None

    @cached_property
    def final_map(self) -> Tensor:
        """The last feature map, ``[B, C, H, W]``."""
        return self.blocks[-1].output.detach()

    @cached_property
    def _averaged(self) -> Tensor:
        return self._network.pool(self.blocks[-1].output)

    @cached_property
    def pooled(self) -> Tensor:
        """What the classifier is given: the pooled final map, embedded, ``[B, F]``."""
        return self._network.embed(self._averaged.detach(), Trace(he=True)).detach()

    @cached_property
    def classifier(self) -> Tensor:
        """The classifier's weight, N(0, 1), ``[K, C]``."""
        return self._network.classifier.slice(self.pooled.shape[1]).detach()

    @cached_property
    def logits(self) -> Tensor:
        """``[B, K]``, with the N(0, 1) classifier."""
        return self.pooled @ self.classifier.T

    @property
    def labels(self) -> Tensor:
        """``[B]``."""
        if self.batch is None:
            raise RuntimeError("this probe has no batch: its proxies declared no forward")
        return self.batch.labels

    @cached_property
    def taps(self) -> Taps:
        """Stage outputs, final map, pooled features and classifier."""
        last_of_side = {block.output.shape[-1]: block.output.detach() for block in self.blocks}
        return Taps(
            stages=tuple(last_of_side.values()),
            final_map=self.final_map,
            pooled=self.pooled,
            logits=self.logits,
            classifier=self.classifier,
        )

    @cached_property
    def _backward(self) -> tuple[tuple[ValueGradient, ...], tuple[ValueGradient, ...]]:
        """The one backward pass: weights and their gradients, maps and theirs."""
        head = Trace(want_weights=True, he=True)
        logits, classifier = self._head(head)
        loss = functional.cross_entropy(logits, self.labels)
        slices = [weight for block in self.blocks for weight in block.weights]
        slices += head.weights
        maps = [x for block in self.blocks for x in block.maps]
        # Later candidates go back through the prefix they share, so the graph has to stay.
        grads = list(torch.autograd.grad(loss, [*slices, classifier, *maps], retain_graph=True))
        weights = []
        for weight in slices:
            scale = math.sqrt(2.0 / weight[0].numel())
            weights.append(ValueGradient(weight.detach() * scale, grads.pop(0) / scale))
        weights.append(ValueGradient(classifier.detach(), grads.pop(0)))
        activations = [ValueGradient(x.detach(), grads.pop(0)) for x in maps]
        return tuple(weights), tuple(activations)

    def _head(self, trace: Trace) -> tuple[Tensor, Tensor]:
        """Logits under He initialisation behind the pool, and the classifier's leaf."""
        pooled = self._network.embed(self._averaged, trace)
        classifier = (self.classifier / math.sqrt(pooled.shape[1])).requires_grad_()
        return pooled @ classifier.T, classifier

    @property
    def gradients(self) -> tuple[ValueGradient, ...]:
        """Cross-entropy's gradient at every convolution and the classifier, He-initialised.

        A convolution followed by batch norm computes the same at any scale s of its weight w,
        so its gradient at s·w is the gradient at w divided by s; this turns the shared N(0, 1)
        pass into the usual He initialisation exactly (up to batch norm's eps). Weights that no
        batch norm follows are multiplied by s as they are used, with the same two corrections.
        """
        return self._backward[0]

    @property
    def map_gradients(self) -> tuple[ValueGradient, ...]:
        """Convolutions' outputs ``[B, C, H, W]`` and cross-entropy's gradient there.

        Their product is the same at any scale of the weights.
        """
        return self._backward[1]

    @cached_property
    def input_gradient(self) -> Tensor:
        """Gradient of the summed logits at the images, one row an image, ``[B, C·H·W]``."""
        if self.images is None:
            raise RuntimeError("this probe has no images: its proxies declared no forward")
        logits, _ = self._head(Trace(he=True))
        (grad,) = torch.autograd.grad(logits.sum(), [self.images], retain_graph=True)
        return grad.flatten(1)

    def run(self, images: Tensor, trace: Trace) -> Tensor:
        """One more forward pass, of other images: the final map, ``[B, C, H, W]``."""
        x = images
        for step in self._network.steps(self.arch):
            x = self._network.run_step(step, x, trace)
        return x

    def standalone(self) -> nn.Module:
        """A copy of the candidate with the nested weights, for proxies that change a network."""
        return self._network.extract(self.arch)

    @property
    def _network(self) -> ElasticNetwork:
        if self.network is None:
            raise RuntimeError("this probe has no network: its proxies declared no forward")
        return self.network
