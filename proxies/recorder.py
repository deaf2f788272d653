"""One forward pass with every call of a module, and of functions between them, seen.

Calls are named by module path. A module called several times in one pass adds ``#k``
(``relu#1`` is the second call), a function called in a module's own forward adds
``:name`` (``layer1:relu`` or, in the outermost module, ``:relu``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["Call", "first_tensor", "record", "watch"]

#: What networks compute between modules and a map may be taken after. The names are those
#: that ``__torch_function__`` sees; a trailing underscore, in place, is dropped.
FUNCTIONS = frozenset(
    {
        *("relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus"),
        *("hardswish", "hardtanh", "tanh", "sigmoid"),
        *("max_pool2d", "max_pool2d_with_indices", "avg_pool2d"),
        *("add", "cat", "batch_norm", "layer_norm"),
    }
)


@dataclass(slots=True, eq=False)
class Call:
    """One call of a module or a function during a forward pass.

    Attributes:
        module: what was called; ``None`` for a function.
        base: the module's path, or the function's name.
        index: how many calls of the same base, by the same caller, came before.
        parent: the module call inside which it happened.
        group: all calls with its base and caller, in order, itself included.
        children: calls inside it, in the order in which they ended.
        in_shape: of the first tensor that went in.
        out_shape: of the first tensor that came out.
        output: that tensor, where it is small enough to be logits.
    """

    module: nn.Module | None
    base: str
    index: int
    parent: Call | None
    group: list[Call]
    children: list[Call] = field(default_factory=list)
    in_shape: tuple[int, ...] | None = None
    out_shape: tuple[int, ...] | None = None
    output: Tensor | None = None

    @property
    def label(self) -> str:
        """The name by which a tap plan asks for this call."""
        base = self.base
        if self.module is None and self.parent is not None:
            base = f"{self.parent.label}:{base}"
        return f"{base}#{self.index}" if len(self.group) > 1 else base

    def aliases(self) -> Iterator[str]:
        """Every name this call answers to; a name without ``#k`` means the last of a group."""
        bases: list[str] = [self.base]
        if self.module is None and self.parent is not None:
            bases = [f"{parent}:{self.base}" for parent in self.parent.aliases()]
        for base in bases:
            yield base
            yield f"{base}#{self.index}"


def first_tensor(value: object) -> Tensor | None:
    """The first tensor in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, tuple | list):
        for item in value:
            if (tensor := first_tensor(item)) is not None:
                return tensor
    return None


class _Recorder(TorchFunctionMode):
    """Keeps the stack of module calls; tensors only where they are wanted."""

    def __init__(
        self, wanted: frozenset[str] | None = None, wanted_inputs: Collection[str] = ()
    ) -> None:
        super().__init__()
        self.wanted = wanted
        self.wanted_inputs = wanted_inputs
        self.outputs: dict[str, Tensor] = {}
        self.inputs: dict[str, Tensor] = {}
        self.root: Call | None = None
        self._stack: list[Call] = []
        self._groups: dict[tuple[int, str], list[Call]] = {}

    def _new(self, module: nn.Module | None, base: str) -> Call:
        parent = self._stack[-1] if self._stack else None
        caller = id(parent) if module is None else 0
        group = self._groups.setdefault((caller, base), [])
        call = Call(module, base, len(group), parent, group)
        group.append(call)
        return call

    def _finish(self, call: Call, given: object, result: object) -> None:
        before, after = first_tensor(given), first_tensor(result)
        call.in_shape = None if before is None else tuple(before.shape)
        call.out_shape = None if after is None else tuple(after.shape)
        if call.parent is not None:
            call.parent.children.append(call)
        if after is None:
            return
        if self.wanted is None:
            if after.dim() == 2 or tuple(after.shape[2:]) == (1, 1):
                call.output = after
            return
        # Copies, because the next layer may work in place.
        for name in self.wanted.intersection(call.aliases()):
            self.outputs[name] = after.clone()
            if name in self.wanted_inputs and before is not None:
                self.inputs[name] = before.clone()

    def enter(self, path: str, module: nn.Module) -> None:
        call = self._new(module, path)
        if self.root is None:
            self.root = call
        self._stack.append(call)

    def leave(self, args: object, kwargs: object, result: object) -> None:
        self._finish(self._stack.pop(), (args, kwargs), result)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        name = str(getattr(func, "__name__", "")).rstrip("_")
        caller = self._stack[-1].module if self._stack else None
        # What a leaf such as nn.ReLU calls is the leaf's own business.
        if name in FUNCTIONS and caller is not None and any(True for _ in caller.children()):
            self._finish(self._new(None, name), args, result)
        return result


@contextmanager
def _hooked(network: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Hooks on every module of a network, gone again afterwards."""

    def before(path: str) -> Any:
        return lambda module, _args: recorder.enter(path, module)

    def after(_module: nn.Module, args: object, kwargs: object, result: object) -> None:
        recorder.leave(args, kwargs, result)

    with ExitStack() as stack:
        for path, module in network.named_modules():
            stack.callback(module.register_forward_pre_hook(before(path)).remove)
            hook = module.register_forward_hook(after, with_kwargs=True)
            stack.callback(hook.remove)
        yield


def _run(network: nn.Module, images: Tensor, recorder: _Recorder) -> object:
    with torch.no_grad(), _hooked(network, recorder), recorder:
        return network(images)


def record(network: nn.Module, images: Tensor) -> tuple[Call, object]:
    """The tree of calls of one forward pass, and what the network returned.

    Args:
        network: left as it is.
        images: ``[B, C, H, W]``, normalised.
    """
    recorder = _Recorder()
    result = _run(network, images, recorder)
    if recorder.root is None:
        raise RuntimeError("hooks on this network are never called")
    return recorder.root, result


def watch(
    network: nn.Module, images: Tensor, outputs: Collection[str], inputs: Collection[str] = ()
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs and inputs of named calls in one forward pass.

    Args:
        network: left as it is.
        images: ``[B, C, H, W]``, normalised.
        outputs: labels of calls; one that nothing answers to is missing in the result.
        inputs: labels of calls whose input is wanted, too; some of ``outputs``.

    Returns:
        Label → output, and label → input.
    """
    recorder = _Recorder(frozenset(outputs), inputs)
    _run(network, images, recorder)
    return recorder.outputs, recorder.inputs
