"""The network that holds every architecture of a space, made of elastic layers.

It holds no active architecture: ``net(x, arch)`` takes it as an argument. Its forward is a
sequence of *steps*, each a hashable description of what is computed; two architectures with
a common prefix of steps compute the same tensors there, which scoring exploits.

Once-for-all (Cai et al., ICLR 2020, §3.3) introduced the nesting; steps are ours.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Hashable, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from .architecture import Architecture
from .channels import ChannelGroup
from .errors import InvalidInputError
from .layers import BatchNorm, ElasticBatchNorm2d, ElasticConv2d, ElasticLinear
from .trace import Step, Trace

__all__ = [
    "EMBEDDING_STD",
    "INITS",
    "ElasticBatchNorm2d",
    "ElasticConv2d",
    "ElasticLinear",
    "ElasticNetwork",
    "Step",
    "Trace",
    "initialise",
    "to_channels_last",
]

INITS = ("he", "normal")

EMBEDDING_STD = 0.02
"""Of class tokens and positions, as ViTs initialise them (DeiT: Touvron et al., ICML 2021)."""


class ElasticNetwork(nn.Module, abc.ABC):
    """Every architecture of a space in one set of weights.

    Subclasses say what the steps of an architecture are and how one is run. The final map is
    pooled over its positions (:meth:`pool`), passed through :meth:`embed` and given to an
    :class:`ElasticLinear` called ``classifier``. Tokens are maps of height 1, ``[B, C, 1, N]``.
    """

    #: What its networks have, of ``"bn"`` (batch norm behind every convolution of a step, but
    #: for those inside a gate), ``"relu"`` (every activation but a gate's is a ReLU or ReLU6) and
    #: ``"attention"`` (linear layers ``qkv`` and ``proj``, and ``fc1`` and ``fc2`` behind them, in
    #: every block); proxies that need one refuse a network without it.
    traits: ClassVar[frozenset[str]] = frozenset()

    classifier: ElasticLinear
    _found: tuple[ElasticBatchNorm2d, ...] | None = None

    @abc.abstractmethod
    def steps(self, arch: Architecture) -> tuple[Step, ...]:
        """The forward pass from image to final map, as hashable steps."""

    @abc.abstractmethod
    def run_step(self, step: Step, x: Tensor, trace: Trace) -> Tensor:
        """One step, ``[B, C, H, W]`` → ``[B, C', H', W']``."""

    def group_key(self, step: Step) -> Hashable:
        """Steps of equal key can be run together by :meth:`run_group`: by default equal steps."""
        return step

    def run_group(self, steps: Sequence[Step], x: Tensor, trace: Trace) -> Tensor:
        """Steps of several candidates at once, each on what its own candidate was given.

        Args:
            steps: of K candidates, all of one :meth:`group_key`.
            x: ``[K·B, C, H, W]``, candidate after candidate; equal in shape between them.
            trace: with :attr:`~Trace.images` B. What couples the images of a candidate has to
                keep to them: batch norm is the caller's to see to, :meth:`Trace.unit` does.

        Returns:
            ``[K·B, C', H', W']``, as :meth:`run_step` gives one by one, up to rounding.
        """
        return self.run_step(steps[0], x, trace)

    @abc.abstractmethod
    def extract(self, arch: Architecture) -> nn.Module:
        """A standalone copy whose outputs equal ``self(x, arch)`` bit for bit.

        Equal in eager fp32 eval at the same threads and memory layout. Compiled, or in
        bfloat16, kernels may be chosen and fused differently: within 1e-4 of the largest
        logit compiled, within 5e-2 in bfloat16.
        """

    def mask_of(self, x: Tensor) -> Tensor | None:  # noqa: ARG002
        """Which tokens of the input are real, bool ``[B, N]``; ``None``: all, there is no padding.

        Whoever runs steps gives it to them as :attr:`Trace.mask`.
        """
        return None

    def pool(self, x: Tensor, trace: Trace) -> Tensor:  # noqa: ARG002
        """The final map without its positions, ``[B, C, H, W]`` → ``[B, C]``: their mean."""
        return x.mean(dim=(2, 3))

    def embed(self, pooled: Tensor, trace: Trace) -> Tensor:  # noqa: ARG002
        """What stands between the pool and the classifier, ``[B, C]`` → ``[B, F]``."""
        return pooled

    def forward(self, x: Tensor, arch: Architecture) -> Tensor:
        """Logits ``[B, classes]`` of one architecture; ``x`` is never resized."""
        trace = Trace(mask=self.mask_of(x))
        for step in self.steps(arch):
            x = self.run_step(step, x, trace)
        return cast(Tensor, self.classifier(self.embed(self.pool(x, trace), trace)))

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Channels that can change places without changing the largest network; default none."""
        return ()

    def track_statistics(self, track: bool, function: BatchNorm | None = None) -> None:
        """Let training-mode forwards move the running statistics, or not.

        Args:
            track: whether they do.
            function: what normalises by the batch where they do not; default torch's.
        """
        for norm in self._norms():
            if norm.track != track or norm.function is not function:
                norm.track, norm.function = track, function

    def _norms(self) -> tuple[ElasticBatchNorm2d, ...]:
        # Walking through all modules takes longer than a small block's forward pass.
        if self._found is None:
            self._found = tuple(m for m in self.modules() if isinstance(m, ElasticBatchNorm2d))
        return self._found

    def sum_in_place(self) -> None:
        """From now on add slices' gradients to those of the parameters, without autograd.

        For training alone, where each parameter's ``.grad`` is kept and added to: a step takes
        less time and memory. See :class:`~scholarch.searchspace.leaves.Leaves` for what does
        not work any more.
        """
        for module in self.modules():
            start: Callable[[], None] | None = getattr(module, "sum_in_place", None)
            if module is not self and start is not None:
                start()


def initialise(network: nn.Module, *, seed: int, init: str = "he") -> None:
    """Fill every weight in place from one seed, leaving the global generator alone.

    Args:
        network: plain or elastic.
        seed: of the generator.
        init: ``"he"``: convolutions N(0, 2/fan_in), linear layers N(0, 1/fan_in);
            embeddings N(0, 0.02²); ``"normal"``: all N(0, 1), the released DisWOT code's. A
            slice of an N(0, 1) tensor is again N(0, 1), so nested weights are distributed as
            fresh ones.

    Norm layers get scale 1 and shift 0, biases 0.

    Raises:
        InvalidInputError: if ``init`` is unknown.
    """
    if init not in INITS:
        raise InvalidInputError(f"unknown init {init!r}; known: {', '.join(INITS)}")
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor):
            continue
        with torch.no_grad():
            if weight.dim() == 1:
                weight.fill_(1.0)
            elif isinstance(module, nn.Embedding):
                std = EMBEDDING_STD if init == "he" else 1.0
                weight.copy_(torch.empty(weight.shape).normal_(0.0, std, generator=generator))
            else:
                gain = 2.0 if weight.dim() > 2 else 1.0
                fan_in = weight[0].numel()
                std = math.sqrt(gain / fan_in) if init == "he" else 1.0
                weight.copy_(torch.empty(weight.shape).normal_(0.0, std, generator=generator))
            bias = getattr(module, "bias", None)
            if isinstance(bias, Tensor):
                bias.zero_()


def to_channels_last(network: nn.Module) -> None:
    """Lay a network's convolutions out channels last, in place: faster on a CPU."""
    # The typed overloads of `Module.to` leave memory formats out.
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
