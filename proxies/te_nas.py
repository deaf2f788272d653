"""TE-NAS's two parts: how trainable a network is, and how many linear pieces it has."""

from __future__ import annotations

import torch
from torch import Tensor

from ..searchspace.elastic import Step, Trace
from .probe import Probe
from .registry import register_proxy

__all__ = ["condition", "te_nas_ntk", "te_nas_regions"]

SIDE = 3
"""Of the inputs in which linear regions are counted, as published."""

LINES = 3
POINTS = 128
SINGULAR = 1e-10
"""λmin/λmax below which float32 gradients do not tell it from 0."""


def condition(kernel: Tensor) -> float:
    """λmax/λmin of a symmetric matrix, ``[N, N]`` in float64.

    Raises:
        RuntimeError: if it is singular to within the gradients' rounding.
    """
    eigenvalues = torch.linalg.eigvalsh(kernel)
    smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])
    if smallest <= SINGULAR * largest:
        raise RuntimeError(
            f"the tangent kernel is singular: eigenvalues from {smallest:.3g} to {largest:.3g};"
            " two images may be alike, or most units dead"
        )
    return largest / smallest


@register_proxy(
    "te-nas-ntk",
    source="TE-NAS (Chen et al., ICLR 2021, §3.1.1, eq. 2)",
    needs={"forward", "network"},
    direction=-1,
)
def te_nas_ntk(probe: Probe) -> float:
    """Condition λmax/λmin of the empirical tangent kernel on the batch; a smaller one is better.

    The kernel is ⟨gₙ, gₘ⟩ with gₙ the gradient of the n-th image's summed logits at all weights
    of convolutions, linear layers and classifier. He initialisation, no labels, one forward of
    the batch; batch norm's statistics are the batch's, as constants (see
    :mod:`.image_gradients`), which makes values two to four times those of statistics that move.
    Float64 from the gradients on; where λmin ≤ 1e-10·λmax the candidate has failed. Grows with
    the batch.
    """
    images = probe.image_pass
    n = len(images.logits)
    kernel = images.logits.new_zeros(n, n, dtype=torch.float64)
    for grads in images.gradients(torch.ones_like(images.logits)):
        rows = grads.double()
        kernel += rows @ rows.T
    return condition(kernel)


def _lines(probe: Probe) -> Tensor:
    """Points on straight lines between random images, ``[LINES·POINTS, C, 3, 3]``."""
    if probe.images is None:
        raise RuntimeError("te-nas-regions takes the number of channels from the batch")
    generator = torch.Generator().manual_seed(probe.seed)
    ends = torch.empty(LINES, 2, 1, 1, SIDE, SIDE).normal_(generator=generator)
    place = torch.linspace(0.0, 1.0, POINTS).view(1, -1, 1, 1, 1)
    grey = torch.lerp(ends[:, 0], ends[:, 1], place).flatten(0, 1)
    channels = probe.images.shape[1]
    x = grey.repeat(1, channels, 1, 1).contiguous(memory_format=torch.channels_last)
    return x.to(probe.images)


@register_proxy(
    "te-nas-regions",
    source="TE-NAS (Chen et al., ICLR 2021, §3.1.2); counted along lines as in Hanin & Rolnick,"
    " ICML 2019, §4",
    needs={"forward", "images", "relu", "network"},
)
def te_nas_regions(probe: Probe) -> float:
    """Number of linear regions that a line through the space of small grey images crosses.

    1 + changes of a ReLU's sign from point to point, the mean over 3 lines of 128 points between
    images of N(0, 1), 3×3, equal in all channels; batch norm by the statistics of these points.
    No data. The paper counts the different sign patterns of 3,000 such images, of one channel,
    in networks cut to one channel: any wider network has as many patterns as images. Along a
    line, a region ends where one unit changes, so their number needs no patterns and has no cap.
    """
    network = probe.network
    if network is None:
        raise RuntimeError("te-nas-regions needs the nested network")

    def run(step: Step, x: Tensor) -> tuple[Tensor, int]:
        trace = Trace(want_relus=True, he=not probe.given)
        x = network.run_step(step, x, trace)
        return x, sum(_changes(relu) for relu in trace.relus)

    with torch.no_grad():
        _, changes = probe.along("te-nas lines", _lines(probe), run)
    return 1.0 + sum(changes) / LINES


def _changes(relu: Tensor) -> int:
    """Changes of sign between neighbouring points, over all units and lines."""
    fires = (relu > 0).unflatten(0, (LINES, POINTS))
    return int((fires[:, 1:] != fires[:, :-1]).sum())
