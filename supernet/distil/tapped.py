"""A student's taps with gradients, from the forward pass that trains it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...proxies.tap_finder import TapPlan, find_taps
from ...proxies.tap_reader import calls_of, read_taps
from ...proxies.taps import Taps
from ...proxies.token_reader import TokenReader
from ...searchspace.errors import InvalidInputError

__all__ = ["TappedStudent", "float_taps", "only_logits"]


class TappedStudent:
    """Reads a network's taps while it runs.

    Hooks stand on the tapped modules alone, and only while it records: watching every call, as
    it is done where taps are found, takes longer than a small network's pass.

    Args:
        network: whose taps; in eval mode while they are found.
        images: ``[B, C, H, W]``, normalised; two are enough.
        reads: what is read of a Transformer's layers, see
            :attr:`~scholarch.supernet.distil.distiller.Distiller.reads`.

    Raises:
        InvalidInputError: if a tap is a function's output, which no hook sees, or the network
            has no feature map, or no layers of which something is to be read.
    """

    def __init__(
        self, network: nn.Module, images: Tensor, reads: Collection[str] = frozenset()
    ) -> None:
        self.network = network
        self._reader = TokenReader(network, reads, "the student")
        self.plan: TapPlan = find_taps(network, images)
        self._size = (int(images.shape[2]), int(images.shape[3]))
        self._outputs: dict[str, Tensor] = {}
        self._inputs: dict[str, Tensor] = {}
        self._calls: dict[str, int] = {}
        self._bases = sorted({label.split("#")[0] for label in calls_of(self.plan)})
        for base in self._bases:
            if ":" in base:
                raise InvalidInputError(
                    f"the student's map {base!r} comes out of a function, where it cannot be read"
                    " in training; make it a module's output, or take a distiller of logits (kd)"
                )

    def _keep(self, base: str, _module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        index = self._calls.get(base, 0)
        self._calls[base] = index + 1
        # A name without #k means the last call, as in tap plans.
        for label in (base, f"{base}#{index}"):
            self._outputs[label] = output
            self._inputs[label] = args[0]

    @contextmanager
    def recording(self) -> Iterator[None]:
        """While it lasts, what the network computes is kept."""
        with ExitStack() as stack:
            stack.enter_context(self._reader.recording())
            for base in self._bases:
                module = self.network.get_submodule(base)
                hook = module.register_forward_hook(partial(self._keep, base))
                stack.callback(hook.remove)
            yield

    def read(self) -> Taps:
        """Taps of the last forward pass inside :meth:`recording`, float32; they are then let go.

        Raises:
            InvalidInputError: if there was none.
        """
        outputs, inputs = dict(self._outputs), dict(self._inputs)
        self._outputs.clear()
        self._inputs.clear()
        self._calls.clear()
        taps = read_taps(self.network, self.plan, outputs, inputs, self._size, "the student")
        return float_taps(replace(taps, tokens=self._reader.read()))


def float_taps(taps: Taps) -> Taps:
    """The same in float32, whatever the precision they were computed in."""
    return replace(
        taps,
        stages=tuple(stage.float() for stage in taps.stages),
        final_map=taps.final_map.float(),
        pooled=taps.pooled.float(),
        logits=None if taps.logits is None else taps.logits.float(),
        classifier=None if taps.classifier is None else taps.classifier.float(),
        tokens=None if taps.tokens is None else taps.tokens.float(),
    )


def only_logits(logits: Tensor) -> Taps:
    """Taps of which nothing but the logits, ``[B, K]``, is there."""
    logits = logits.float()
    none = torch.zeros(len(logits), 0, device=logits.device)
    return Taps((), none[:, :, None, None], none, logits)
