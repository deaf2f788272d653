"""Elastic layers and the network that holds every architecture of a space.

An elastic layer owns the largest weight and slices what an architecture needs. The network
holds no active architecture: ``net(x, arch)`` takes it as an argument. Its forward is a
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
from torch.nn import functional

from .architecture import Architecture
from .channels import ChannelGroup
from .errors import InvalidInputError
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

#: (maps, scale, shift, eps) → maps normalised by the batch.
BatchNorm = Callable[[Tensor, Tensor, Tensor, float], Tensor]

EMBEDDING_STD = 0.02
"""Of class tokens and positions, as ViTs initialise them (DeiT: Touvron et al., ICML 2021)."""


class ElasticConv2d(nn.Module):
    """A square convolution with "same" padding, sliced in channels and cropped in its kernel.

    A smaller kernel is the centre of the next larger one times a learned matrix, identity at
    first and shared by all channels, 7 → 5 → 3 one after the other (Cai et al., ICLR 2020,
    §3.3); the largest kernel never meets a matrix, so it sends them no gradient.

    Args:
        in_channels: most input channels.
        out_channels: most output channels; equal to ``in_channels`` where depthwise.
        kernel: largest side.
        stride: of the convolution.
        depthwise: one filter a channel.
        kernels: every side that can be asked for; default ``kernel`` alone.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        *,
        depthwise: bool = False,
        kernels: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = depthwise
        self.sides = sorted({*kernels, kernel}, reverse=True)
        per_group = 1 if depthwise else in_channels
        self.weight = nn.Parameter(torch.empty(out_channels, per_group, kernel, kernel))
        for smaller in self.sides[1:]:
            self.register_parameter(f"to_{smaller}", nn.Parameter(torch.eye(smaller**2)))

    def slice(self, in_channels: int, out_channels: int, kernel: int | None = None) -> Tensor:
        """The ``[out, in, k, k]`` weight of a smaller convolution, contiguous.

        Raises:
            InvalidInputError: if ``kernel`` is none of the sides.
        """
        in_channels = 1 if self.depthwise else in_channels
        weight: Tensor = self.weight
        if weight.shape[:2] != (out_channels, in_channels):
            weight = weight[:out_channels, :in_channels]
        side = self.sides[0]
        if kernel not in (None, side):
            if kernel not in self.sides:
                raise InvalidInputError(f"kernel {kernel} is not one of {self.sides}")
            for smaller in self.sides[1 : self.sides.index(kernel) + 1]:
                edge = (side - smaller) // 2
                centre = weight[:, :, edge : edge + smaller, edge : edge + smaller]
                rows = centre.reshape(-1, smaller**2) @ getattr(self, f"to_{smaller}").T
                weight, side = rows.view(out_channels, in_channels, smaller, smaller), smaller
        return weight.contiguous()

    def forward(
        self, x: Tensor, out_channels: int, trace: Trace, kernel: int | None = None
    ) -> Tensor:
        weight = trace.weight(self.slice(x.shape[1], out_channels, kernel))
        groups = x.shape[1] if self.depthwise else 1
        side = weight.shape[-1]
        out = functional.conv2d(x, weight, None, self.stride, side // 2, groups=groups)
        return trace.map(out, normed=True)


class ElasticBatchNorm2d(nn.Module):
    """Batch norm whose first ``C`` channels serve an input of ``C`` channels.

    In training mode it normalises by the batch and, where ``track`` is true, moves the
    running statistics; scoring turns ``track`` off so that no call changes the network, and
    may put its own ``function`` in the place of torch's.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.track = True
        self.function: BatchNorm | None = None
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        c = x.shape[1]
        keep = self.track or not self.training
        if self.function is not None and not keep:
            return self.function(x, self.weight[:c], self.bias[:c], self.eps)
        return functional.batch_norm(
            x,
            self.running_mean[:c] if keep else None,
            self.running_var[:c] if keep else None,
            self.weight[:c],
            self.bias[:c],
            self.training,
            self.momentum,
            self.eps,
        )

    def copy_into(self, plain: nn.BatchNorm2d) -> None:
        """Copy the leading channels into a plain layer."""
        c = plain.num_features
        for name in ("weight", "bias", "running_mean", "running_var"):
            cast(Tensor, getattr(plain, name)).data.copy_(getattr(self, name)[:c])


class ElasticLinear(nn.Module):
    """A linear layer sliced in its input features."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def slice(self, in_features: int) -> Tensor:
        """The leading ``[out, in]`` of the weight, contiguous."""
        # A linear layer on a strided view rounds differently from one on its copy.
        return self.weight[:, :in_features].contiguous()

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.slice(x.shape[1]), self.bias)


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

    def pool(self, x: Tensor) -> Tensor:
        """The final map without its positions, ``[B, C, H, W]`` → ``[B, C]``: their mean."""
        return x.mean(dim=(2, 3))

    def embed(self, pooled: Tensor, trace: Trace) -> Tensor:  # noqa: ARG002
        """What stands between the pool and the classifier, ``[B, C]`` → ``[B, F]``."""
        return pooled

    def forward(self, x: Tensor, arch: Architecture) -> Tensor:
        """Logits ``[B, classes]`` of one architecture; ``x`` is never resized."""
        trace = Trace()
        for step in self.steps(arch):
            x = self.run_step(step, x, trace)
        return cast(Tensor, self.classifier(self.embed(self.pool(x), trace)))

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Channels that can change places without changing the largest network; default none."""
        return ()

    def track_statistics(self, track: bool, function: BatchNorm | None = None) -> None:
        """Let training-mode forwards move the running statistics, or not.

        Args:
            track: whether they do.
            function: what normalises by the batch where they do not; default torch's.
        """
        for module in self.modules():
            if isinstance(module, ElasticBatchNorm2d):
                module.track, module.function = track, function


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
            if isinstance(module, nn.Conv2d | ElasticConv2d | nn.Linear | ElasticLinear):
                gain = 2.0 if weight.dim() == 4 else 1.0
                fan_in = weight[0].numel()
                std = math.sqrt(gain / fan_in) if init == "he" else 1.0
                weight.copy_(torch.empty(weight.shape).normal_(0.0, std, generator=generator))
            elif isinstance(module, nn.Embedding):
                std = EMBEDDING_STD if init == "he" else 1.0
                weight.copy_(torch.empty(weight.shape).normal_(0.0, std, generator=generator))
            elif weight.dim() == 1:
                weight.fill_(1.0)
            bias = getattr(module, "bias", None)
            if isinstance(bias, Tensor):
                bias.zero_()


def to_channels_last(network: nn.Module) -> None:
    """Lay a network's convolutions out channels last, in place: faster on a CPU."""
    # The typed overloads of `Module.to` leave memory formats out.
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
