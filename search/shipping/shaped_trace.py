"""A network's forward pass as a graph, traced with shapes known and the batch left open.

``torch.fx`` traces symbolically: a tensor's ``len`` and sizes are unknown, and code that takes
them as numbers, as Transformers' does, cannot be traced. Here every value carries a tensor of
the meta device along, which has a shape and no memory. The batch is a number that nothing else
has; where it turns up as an argument, the graph reads it off the images.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate

from ...searchspace.errors import ScholarchError
from .inputs import Image, empty_inputs
from .parity import first_line

__all__ = ["UntraceableError", "is_layer", "traced"]

#: Images of the batch that the shapes are those of: a prime larger than any size of a network.
BATCH = 1_000_003

#: Layers whose output is of their input's shape; asking the meta device takes far longer.
_SAME_SHAPE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Identity)

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def is_layer(module: nn.Module) -> bool:
    """Whether a module is one of ``torch.nn`` that computes something."""
    own = type(module).__module__.startswith("torch.nn.")
    return own and not isinstance(module, _CONTAINERS)


class UntraceableError(ScholarchError):
    """A network's forward pass is no fixed sequence of operations."""


def traced(network: nn.Module, image: Image) -> fx.Graph:
    """The operations of a network in evaluation mode, in order.

    Layers of ``torch.nn`` are called, modules of others are traced through.

    Args:
        network: in evaluation mode; left as it is.
        image: channels, height and width, or what sequences; sizes in the graph are those at
            this resolution or length, but for the batch.

    Raises:
        UntraceableError: if what is run depends on more than the images' size.
    """
    # What a layer does to shapes is asked of a copy without memory.
    shapes = copy.deepcopy(network).to("meta")
    tracer = _Tracer(shapes, image)
    try:
        graph = tracer.trace(network)
        _open_batch(graph)
    except UntraceableError:
        raise
    except Exception as error:
        # Whatever a user's module may raise when it is not given tensors.
        raise UntraceableError(f"{type(error).__name__}: {first_line(error)}") from error
    graph.lint()
    return graph


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True

    def __init__(self, shapes: nn.Module, image: Image) -> None:
        super().__init__()
        self._shapes = shapes
        self._image = image
        self._asking = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        return is_layer(m)

    def create_proxy(
        self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any
    ) -> Any:
        # An argument with a default is not given by who runs what is exported.
        if kind == "placeholder" and args:
            return args[0]
        return super().create_proxy(kind, target, args, kwargs, *rest, **named)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        # While tracing, every module's call comes here, those of the copy, too.
        return (
            forward(*args, **kwargs)
            if self._asking
            else super().call_module(m, forward, args, kwargs)
        )

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        # The copy's weights are no part of the graph; looking for them there takes long.
        return attr_val if self._asking else super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        self._asking = True
        try:
            value = _run(self._shapes, node, self._image)
        finally:
            self._asking = False
        node.meta["value"] = value
        return (
            _ShapedProxy(value, node, self) if isinstance(value, Tensor) else fx.Proxy(node, self)
        )


class _ShapedProxy(fx.Proxy):
    """A value in a graph whose shape can be asked for."""

    def __init__(self, value: Tensor, node: fx.Node, tracer: fx.Tracer) -> None:
        super().__init__(node, tracer)
        self._value = value

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._value, name)
        if isinstance(found, Tensor):  # such as .T
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        return super().__getattr__(name) if callable(found) else found

    def __len__(self) -> int:
        return len(self._value)

    def __iter__(self) -> Iterator[Any]:
        return iter([operator.getitem(self, i) for i in range(len(self))])

    def size(self, dim: int | None = None) -> Any:
        """As a tensor's."""
        return self._value.size() if dim is None else self._value.size(dim)

    def dim(self) -> int:
        """As a tensor's."""
        return self._value.dim()

    def is_floating_point(self) -> bool:
        """As a tensor's."""
        return self._value.is_floating_point()


def _run(shapes: nn.Module, node: fx.Node, image: Image) -> Any:
    """What a node gives, on the meta device."""
    if node.op == "placeholder":
        return empty_inputs(BATCH, image, "meta")
    if node.op == "output":
        return None
    if node.op == "get_attr":
        return _attribute(shapes, str(node.target))
    args, kwargs = (_values(given) for given in (node.args, node.kwargs))
    with torch.no_grad():
        if node.op == "call_module":
            layer = shapes.get_submodule(str(node.target))
            return args[0] if isinstance(layer, _SAME_SHAPE) else layer(*args, **kwargs)
        if node.op == "call_method":
            owner, *rest = args
            return getattr(owner, str(node.target))(*rest, **kwargs)
        call: Any = node.target
        return call(*args, **kwargs)


def _values(given: Any) -> Any:
    return map_aggregate(given, lambda a: a.meta["value"] if isinstance(a, fx.Node) else a)


def _attribute(module: nn.Module, path: str) -> Any:
    owner, _, name = path.rpartition(".")
    return getattr(module.get_submodule(owner), name)


def _open_batch(graph: fx.Graph) -> None:
    """Put the images' own number where the batch's stands."""
    images = next(node for node in graph.nodes if node.op == "placeholder")
    size: list[fx.Node] = []

    def replaced(value: Any) -> Any:
        if not isinstance(value, int) or isinstance(value, bool) or value < BATCH or value % BATCH:
            return value
        if value != BATCH:
            raise UntraceableError(f"the batch is part of a number that is computed ({value})")
        if not size:
            with graph.inserting_after(images):
                size.append(graph.call_method("size", (images, 0)))
        return size[0]

    for node in list(graph.nodes):
        node.args = map_aggregate(node.args, replaced)
        node.kwargs = map_aggregate(node.kwargs, replaced)
