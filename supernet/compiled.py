"""An elastic network's steps, each compiled by itself.

A compiled network would be compiled again for every architecture drawn. Steps recur: a space
has some tens or hundreds of them, and after a few architectures most have been met. Steps of
equal shapes share what the compiler has cached.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from ..searchspace.architecture import Architecture
from ..searchspace.elastic import ElasticNetwork, Step, Trace
from ..searchspace.errors import ScholarchError
from .solo import SoloNetwork

__all__ = ["CompiledSteps", "CompilerError", "compiled"]

_RunStep = Callable[[ElasticNetwork, Step, Tensor, Tensor | None], Tensor]


class CompilerError(ScholarchError):
    """``torch.compile`` did not come to an end."""


class CompiledSteps:
    """``network(x, arch)`` with compiled steps; the network itself stays as it is.

    Nothing of torch's settings is changed. A step is compiled when first met, and once more
    for each mode in which it is met: training or not, statistics moved or not, with gradients
    or without, another precision or batch shape.

    Args:
        network: whose steps.
        backend: of :func:`torch.compile`. ``"inductor"`` needs a C++ compiler for a CPU, and
            Triton for a GPU; ``"aot_eager"`` and ``"eager"`` need neither and are no faster.
    """

    def __init__(
        self, network: ElasticNetwork, *, backend: str | Callable[..., Any] = "inductor"
    ) -> None:
        self.network = network
        self.backend = backend
        self._steps: dict[Step, _RunStep] = {}

    def __len__(self) -> int:
        """Steps met so far."""
        return len(self._steps)

    def __call__(self, x: Tensor, arch: Architecture) -> Tensor:
        """Logits ``[B, classes]``, within 1e-4 of the largest of the network's own.

        Raises:
            CompilerError: if the backend fails, for instance for want of a compiler.
        """
        network = self.network
        try:
            mask = network.mask_of(x)
            for step in network.steps(arch):
                x = self._compiled(step)(network, step, x, mask)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            inner = getattr(error, "inner_exception", error)
            reason = str(inner).split("\n", 1)[0]
            raise CompilerError(
                f"cannot compile for device {str(x.device)!r}: {reason}; install what is missing,"
                " or train with compile = False"
            ) from error
        trace = Trace(mask=mask)
        pooled = network.embed(network.pool(x, trace), trace)
        return cast(Tensor, network.classifier(pooled))

    def _compiled(self, step: Step) -> _RunStep:
        found = self._steps.get(step)
        if found is None:
            # What is compiled is kept by code object, so many to each, and looked through one
            # by one: each step has an object of its own.
            name = "_".join((step.kind, *map(str, step.args)))
            code = _run.__code__.replace(co_name=name)
            own = types.FunctionType(code, _run.__globals__, name)
            found = torch.compile(own, backend=self.backend, dynamic=False)
            self._steps[step] = found
        return found


def compiled(network: ElasticNetwork) -> Callable[[Tensor, Architecture], Tensor]:
    """A network's compiled forward pass: step by step, or whole where it is one plain network."""
    return network.compiled() if isinstance(network, SoloNetwork) else CompiledSteps(network)


def _run(network: ElasticNetwork, step: Step, x: Tensor, mask: Tensor | None) -> Tensor:
    return network.run_step(step, x, Trace(mask=mask))
