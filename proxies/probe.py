"""The one set of measurements that serves every proxy.

A :class:`Probe` is a candidate seen through one shared forward pass and, where a proxy asks,
one shared backward. Candidates with a common prefix of steps share its
:class:`BlockProbe` objects, and with them whatever a proxy remembered there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..searchspace.architecture import Architecture
from ..searchspace.elastic import ElasticNetwork, Step, Trace
from .batch import Batch
from .block import BlockProbe, Memo
from .gradients import SecondOrder, ValueGradient, differentiate, hessian_times_gradient
from .image_gradients import ImagePass, LayerTrace, recording, run_step
from .padding import cleared
from .stages import evenly_spaced
from .taps import Taps

__all__ = ["BlockProbe", "Probe", "TeacherSide", "ValueGradient"]

T = TypeVar("T")


class TeacherSide:
    """The teacher's measurements on the batch, and what proxies derive from them, once a run.

    Attributes:
        taps: of the teacher on the batch's images.
        labels: of the batch, ``[B]``.
    """

    def __init__(self, taps: Taps, labels: Tensor) -> None:
        self.taps = taps
        self.labels = labels
        self._memo = Memo()

    def memo(self, name: str, compute: Callable[[TeacherSide], T]) -> T:
        """``compute(self)``, the first time it is asked for under ``name``."""
        return self._memo.get(name, lambda: compute(self))


@dataclass(eq=False)
class Probe:
    """A candidate and everything a proxy may ask about it.

    Weights are N(0, 1), the released DisWOT code's initialisation; batch norm uses the
    statistics of the batch, scale 1 and shift 0, so no map depends on the weights' scale.
    Weights that no batch norm follows (gates, behind the pool, all of a Transformer's) are taken
    at He scale, embeddings at theirs: gates under N(0, 1) would all be open or shut, attention
    would look at one token.

    Where weights are ``given``, a trained or inherited supernet's, all of that is left out: every
    weight, bias, norm and classifier is taken as it is, and what is said below of He
    initialisation holds of these weights. Batch norm still uses the statistics of the batch.

    Attributes:
        arch: the candidate.
        costs: its costs by name.
        batch: the images and labels.
        blocks: the steps of the forward pass, shallow to deep; empty without a forward.
        network: the nested network that holds it.
        teacher: the teacher's side, or ``None``.
        seed: of the weights.
        images: what the first step was given, ``[B, C, H, W]``, normalised.
        modality: what these are, ``"image"``, ``"text"`` or ``"sound"``.
        given: whether the network's weights are taken as they are.
    """

    arch: Architecture
    costs: Mapping[str, float]
    batch: Batch | None = None
    blocks: tuple[BlockProbe, ...] = ()
    network: ElasticNetwork | None = None
    teacher: TeacherSide | None = None
    seed: int = 0
    images: Tensor | None = None
    modality: str = "image"
    given: bool = False
    _memo: Memo = field(default_factory=Memo)

    def memo(self, name: str, compute: Callable[[Probe], T]) -> T:
        """``compute(self)``, the first time it is asked for under ``name``."""
        return self._memo.get(name, lambda: compute(self))

    def trace(self, images: Tensor | None = None, **wanted: Any) -> Trace:
        """A trace for one more pass, on weights as they are scored.

        Args:
            images: that are passed; default those of the batch.
            wanted: of it, see :class:`~scholarch.searchspace.trace.Trace`.
        """
        mask = self.mask if images is None else self._network.mask_of(images)
        return Trace(he=not self.given, mask=mask, **wanted)

    @cached_property
    def final_map(self) -> Tensor:
        """The last feature map, ``[B, C, H, W]``."""
        return self.blocks[-1].output.detach()

    @cached_property
    def mask(self) -> Tensor | None:
        """Which tokens of the batch are real, bool ``[B, N]``; ``None``: there is no padding."""
        return None if self.images is None else self._network.mask_of(self.images)

    @cached_property
    def _averaged(self) -> Tensor:
        return self._network.pool(self.blocks[-1].output, Trace(mask=self.mask))

    @cached_property
    def pooled(self) -> Tensor:
        """What the classifier is given: the pooled final map, embedded, ``[B, F]``."""
        return self._network.embed(self._averaged.detach(), self.trace()).detach()

    @cached_property
    def classifier(self) -> Tensor:
        """The classifier's weight, N(0, 1) or as given, ``[K, C]``."""
        return self._network.classifier.slice(self.pooled.shape[1]).detach()

    @cached_property
    def logits(self) -> Tensor:
        """``[B, K]``, with the N(0, 1) classifier, or the given one and its bias."""
        logits = self.pooled @ self.classifier.T
        return logits + self._network.classifier.bias.detach() if self.given else logits

    @property
    def labels(self) -> Tensor:
        """``[B]``."""
        if self.batch is None:
            raise RuntimeError("this probe has no batch: its proxies declared no forward")
        return self.batch.labels

    @cached_property
    def taps(self) -> Taps:
        """Stage outputs, final map, pooled features and classifier."""
        return Taps(
            stages=tuple(block.output.detach() for block in self._stages()),
            final_map=self.final_map,
            pooled=self.pooled,
            logits=self.logits,
            classifier=self.classifier,
        )

    def _stages(self) -> list[BlockProbe]:
        """The last block of each resolution; of text and sound evenly spaced layers."""
        if self.modality == "image":
            return list({block.output.shape[-1]: block for block in self.blocks}.values())
        layers = [block for block in self.blocks if block.step.kind not in {"stem", "head"}]
        return evenly_spaced(layers)

    @cached_property
    def _loss(self) -> tuple[Tensor, list[Tensor], list[float]]:
        """Cross-entropy, the weights it depends on, and the factors to their He initialisation.

        Given weights need none.
        """
        trace = self.trace(want_weights=True)
        with SecondOrder():
            logits, classifier = self.head(self.blocks[-1].output, trace)
        loss = functional.cross_entropy(logits, self.labels)
        slices = [weight for block in self.blocks for weight in block.weights] + trace.weights
        scales = [1.0 if self.given else math.sqrt(2.0 / w[0].numel()) for w in slices]
        return loss, [*slices, classifier], [*scales, 1.0]

    @cached_property
    def _backward(self) -> tuple[tuple[ValueGradient, ...], tuple[ValueGradient, ...]]:
        """The one backward pass: weights and their gradients, maps and theirs."""
        loss, leaves, scales = self._loss
        maps = [x for block in self.blocks for x in block.maps]
        grads = differentiate(loss, [*leaves, *maps])
        weights = [
            ValueGradient(leaf.detach() * scale, grad / scale)
            for leaf, scale, grad in zip(leaves, scales, grads, strict=False)
        ]
        activations = [
            ValueGradient(x.detach(), grad)
            for x, grad in zip(maps, grads[len(leaves) :], strict=True)
        ]
        return tuple(weights), tuple(activations)

    def head(self, final_map: Tensor, trace: Trace) -> tuple[Tensor, Tensor]:
        """Logits under He initialisation behind a final map, and the classifier's leaf."""
        pooled = self._network.embed(self._network.pool(final_map, trace), trace)
        return self._classified(pooled)

    def _classified(self, features: Tensor) -> tuple[Tensor, Tensor]:
        if self.given:
            classifier = self.classifier.clone().requires_grad_()
            bias = self._network.classifier.bias.detach()
            return features @ classifier.T + bias, classifier
        classifier = (self.classifier / math.sqrt(features.shape[1])).requires_grad_()
        return features @ classifier.T, classifier

    @property
    def gradients(self) -> tuple[ValueGradient, ...]:
        """Cross-entropy's gradient at every convolution and linear layer, He-initialised or given.

        A convolution followed by batch norm computes the same at any scale s of its weight w,
        so its gradient at s·w is the gradient at w divided by s; this turns the shared N(0, 1)
        pass into the usual He initialisation exactly (up to batch norm's eps). Weights that no
        batch norm follows are multiplied by s as they are used, with the same two corrections.
        """
        return self._backward[0]

    @property
    def map_gradients(self) -> tuple[ValueGradient, ...]:
        """:attr:`BlockProbe.maps` ``[B, C, H, W]`` and cross-entropy's gradient there.

        Their product is the same at any scale of the weights.
        """
        return self._backward[1]

    @cached_property
    def hessian_gradients(self) -> tuple[Tensor, ...]:
        """The loss's Hessian times its gradient, tensor by tensor as in :attr:`gradients`.

        Takes the gradient again: as part of a graph it would cost every other proxy its time.
        """
        return tuple(hessian_times_gradient(*self._loss))

    @cached_property
    def input_gradient(self) -> Tensor:
        """Gradient of the summed logits at the images, one row an image, ``[B, C·H·W]``."""
        if self.images is None:
            raise RuntimeError("this probe has no images: its proxies declared no forward")
        logits, _ = self.head(self.blocks[-1].output, self.trace())
        (grad,) = torch.autograd.grad(logits.sum(), [self.images], retain_graph=True)
        return grad.flatten(1)

    @cached_property
    def image_pass(self) -> ImagePass:
        """A pass with constant statistics of batch norm: gradients image by image."""
        if self.images is None:
            raise RuntimeError("this probe has no images: its proxies declared no forward")
        run = partial(run_step, self._network, mask=self.mask, given=self.given)
        final_map, traces = self.along("image pass", self.images.detach(), run)
        head = LayerTrace(self.mask, given=self.given)
        with recording(head):
            features = self._network.embed(self._network.pool(final_map, head), head)
            logits, _ = self._classified(features)
        layers = [layer for trace in (*traces, head) for layer in trace.layers]
        return ImagePass(logits, features.detach(), layers)

    def along(
        self, name: str, x: Tensor, run: Callable[[Step, Tensor], tuple[Tensor, T]]
    ) -> tuple[Tensor, list[T]]:
        """One more pass, its steps shared under ``name`` with candidates of the same prefix.

        Args:
            name: of the pass.
            x: what the first step is given; the same for all candidates.
            run: (step, what it is given) → its output, and whatever is to be kept.

        Returns:
            The final map, and what was kept of each step.
        """
        kept = []
        for block in self.blocks:
            x, left = block.memo(name, partial(_run_block, run, x))
            kept.append(left)
        return x, kept

    def run(self, images: Tensor, trace: Trace) -> Tensor:
        """One more forward pass, of other images: the final map, ``[B, C, H, W]``.

        Args:
            images: ``[B, C, H, W]``, normalised.
            trace: its mask is set to the images'.
        """
        x, trace.mask = images, self._network.mask_of(images)
        for step in self._network.steps(self.arch):
            x = cleared(self._network.run_step(step, x, trace), trace)
        return x

    def standalone(self) -> nn.Module:
        """A copy of the candidate with the nested weights, for proxies that change a network."""
        return self._network.extract(self.arch)

    @property
    def _network(self) -> ElasticNetwork:
        if self.network is None:
            raise RuntimeError("this probe has no network: its proxies declared no forward")
        return self.network


def _run_block(
    run: Callable[[Step, Tensor], tuple[Tensor, T]], x: Tensor, block: BlockProbe
) -> tuple[Tensor, T]:
    return run(block.step, x)
