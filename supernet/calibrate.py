"""Batch statistics for a network cut out of a supernet.

The running statistics of a supernet are its largest network's; under others they are garbage,
so they are measured again on a few batches (Cai et al., ICLR 2020, appendix; Yu & Huang, ICCV
2019, §3.2, "post-statistics").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..searchspace.elastic import ElasticNetwork
from ..searchspace.errors import InvalidInputError

__all__ = ["calibrate"]


class _Pool:
    """Mean and variance of everything that passes a layer, batch by batch.

    Chan, Golub & LeVeque, 1979: the sum of squared deviations of a union is the parts' own
    plus what their means differ by.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def before(self, norm: _BatchNorm, args: tuple[Tensor, ...]) -> None:
        """Refuse a batch without a variance; forget what the layer holds."""
        (x,) = args
        if x.numel() <= x.shape[1]:
            raise InvalidInputError(
                f"a batch of {len(x)} gives batch norm at most one value a channel, "
                f"{list(x.shape)}; calibrate with at least 2 images a batch"
            )
        # A NaN would outlive the multiplication by 1 - momentum = 0.
        norm.reset_running_stats()

    def after(self, norm: _BatchNorm, args: tuple[Tensor, ...], _out: Tensor) -> None:
        """Take in what the layer has just measured, at momentum 1 the batch's own."""
        (x,) = args
        n = x.numel() // x.shape[1]
        mean, var = (_wide(cast(Tensor, t)) for t in (norm.running_mean, norm.running_var))
        self.count += n
        delta = mean - self.mean
        # Of the first batch exactly its own: n / count = 1, and nothing came before.
        self.mean = self.mean + delta * (n / self.count)
        self.squares = self.squares + var * (n - 1)
        self.squares = self.squares + delta.square() * (n * (self.count - n) / self.count)

    def write(self, norm: _BatchNorm) -> None:
        """Make them the layer's statistics, if anything has passed."""
        if self.count:
            cast(Tensor, norm.running_mean).copy_(cast(Tensor, self.mean))
            cast(Tensor, norm.running_var).copy_(cast(Tensor, self.squares) / (self.count - 1))


def _wide(statistic: Tensor) -> Tensor:
    # Apple's GPUs have no float64.
    return statistic.to(torch.float32 if statistic.device.type == "mps" else torch.float64)


@torch.no_grad()
def calibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Measure a plain network's batch-norm statistics again, in place.

    Every batch is normalised by its own statistics, layer after layer. The running statistics
    become those of all batches together, as if every layer's inputs had been one batch:
    ``mean = E[mᵢ]`` and ``var = E[vᵢ] + Var[mᵢ]``, weighted by the values in each batch, with
    Bessel's correction for their total number: of one batch exactly what torch takes over at
    momentum 1. Nothing depends on the statistics held before. Pooled in float64 on the
    network's device; under autocast, too, torch measures in float32. (Once-for-all's code
    averages the batches' variances alone, which leaves ``Var[mᵢ]`` out.)

    Dropout is off. Training flags, momenta and counters are left as they were, and so are the
    statistics of layers that nothing passed; without batch norm nothing is done.

    Args:
        network: an extracted network, or any other.
        batches: normalised images ``[B, C, H, W]`` each, on the network's device; at least 2
            images, and several hundred in all.

    Raises:
        InvalidInputError: if there is no batch, a batch is too small to have a variance, or the
            network is elastic; the statistics are those of before, then as after any error.
    """
    if isinstance(network, ElasticNetwork):
        raise InvalidInputError("cannot calibrate a supernet; calibrate network.extract(arch)")
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return
    pools = {norm: _Pool() for norm in norms}
    with _measuring(network, pools):
        empty = True
        for images in batches:
            network(images)
            empty = False
        if empty:
            raise InvalidInputError("no batch to calibrate with; give at least one")
    for norm, pool in pools.items():
        pool.write(norm)


@contextmanager
def _measuring(network: nn.Module, pools: Mapping[_BatchNorm, _Pool]) -> Iterator[None]:
    """Batch norm in training mode at momentum 1, everything else in eval; then all as before."""
    training = {module: module.training for module in network.modules()}
    momenta = {norm: norm.momentum for norm in pools}
    kept = {buffer: buffer.clone() for norm in pools for buffer in norm.buffers(recurse=False)}
    with ExitStack() as hooks:
        for norm, pool in pools.items():
            hooks.enter_context(norm.register_forward_pre_hook(pool.before))
            hooks.enter_context(norm.register_forward_hook(pool.after))
        try:
            network.eval()
            for norm in pools:
                norm.train()
                norm.momentum = 1.0
            yield
        finally:
            for module, flag in training.items():
                module.training = flag
            for norm, momentum in momenta.items():
                norm.momentum = momentum
            for buffer, old in kept.items():
                buffer.copy_(old)
