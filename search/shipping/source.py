"""A network as the source of a module that needs torch alone."""

from __future__ import annotations

import inspect
import keyword
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from .inputs import Image
from .shaped_trace import UntraceableError, is_layer, traced

__all__ = ["class_source", "constants_of"]

_INDENT = " " * 8

_OPERATORS: dict[Any, str] = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.truediv: "/",
    operator.floordiv: "//",
    operator.matmul: "@",
    operator.eq: "==",
    operator.ne: "!=",
    operator.iadd: "+",
    operator.imul: "*",
}

_SIGNS: dict[Any, str] = {operator.neg: "-", operator.invert: "~"}

#: Of a layer's constructor, what says where and in which type its weights are made.
_PLACES = ("device", "dtype")
_ANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def class_source(network: nn.Module, image: Image, name: str = "Network") -> str:
    """The source of a class whose objects compute what a network does in evaluation mode.

    Layers are of ``torch.nn``, at the network's own dotted names, so that the keys of its state
    dict are equal; the forward pass is the traced one.

    Args:
        network: in evaluation mode; left as it is.
        image: channels, height and width, or what sequences; sizes in the source are those at
            this resolution or length.
        name: of the class.

    Returns:
        Python source that uses the names ``torch``, ``nn`` and ``functional``.

    Raises:
        UntraceableError: if the forward pass is no fixed sequence of operations, or something
            in it is not torch's.
    """
    graph = traced(network, image)
    layers = _Layers()
    layers.add(network, "self")
    forward = _forward(graph, layers.access)
    return "\n".join(
        [
            f"class {name}(nn.Module):",
            "    def __init__(self):",
            f"{_INDENT}super().__init__()",
            *(_INDENT + line for line in layers.lines),
            "",
            "    def forward(self, x):",
            *(_INDENT + line for line in forward),
            "",
        ]
    )


def constants_of(network: nn.Module) -> dict[str, Tensor]:
    """Buffers that are no part of a network's state dict, as fixed filters are, by dotted name."""
    kept = network.state_dict()
    return {name: value for name, value in network.named_buffers() if name not in kept}


# ---------------------------------------------------------------------- constructors


class _Layers:
    """Statements that make a network's layers, and how each is reached.

    Attributes:
        lines: in order.
        access: dotted name of a module, parameter or buffer → expression.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.access: dict[str, str] = {}
        self._made: dict[int, str] = {}

    def add(self, module: nn.Module, owner: str, path: str = "") -> None:
        """What a module holds, whose own expression is ``owner``."""
        dot = f"{path}." if path else ""
        for name, weight in module.named_parameters(recurse=False):
            self._tensor(owner, name, dot + name, f"nn.Parameter({_empty(weight)})")
        kept = module.state_dict(keep_vars=True)
        for name, value in module.named_buffers(recurse=False):
            self.access[dot + name] = f"{owner}.{name}"
            # One that is no part of the state dict is a constant, see `constants_of`.
            apart = "" if name in kept else ", persistent=False"
            self.lines.append(f"{owner}.register_buffer({name!r}, {_empty(value)}{apart})")
        counted = _is_list(module)
        # Not named_children: a module that stands in two places has two names.
        for name, child in module._modules.items():
            if child is None:
                continue
            reached = f"{owner}[{name}]" if counted else _member(owner, name)
            self.access[dot + name] = reached
            same = self._made.setdefault(id(child), reached)
            made = same if same != reached else _constructor(child, dot + name)
            if counted:
                self.lines.append(f"{owner}.append({made})")
            elif reached.startswith("getattr("):
                self.lines.append(f"{owner}.add_module({name!r}, {made})")
            else:
                self.lines.append(f"{reached} = {made}")
            if same == reached and not is_layer(child):
                self.add(child, reached, dot + name)
            elif is_layer(child):
                self._inside(child, reached, dot + name)

    def _tensor(self, owner: str, name: str, path: str, made: str) -> None:
        self.access[path] = f"{owner}.{name}"
        self.lines.append(f"{owner}.{name} = {made}")

    def _inside(self, layer: nn.Module, reached: str, path: str) -> None:
        """A layer's weights, which a forward pass may read by themselves."""
        for name in layer.state_dict():
            self.access[f"{path}.{name}"] = f"{reached}.{name}"


def _is_list(module: nn.Module) -> bool:
    names = list(module._modules)
    return bool(names) and names == [str(i) for i in range(len(names))]


def _member(owner: str, name: str) -> str:
    plain = name.isidentifier() and not keyword.iskeyword(name)
    return f"{owner}.{name}" if plain else f"getattr({owner}, {name!r})"


def _empty(value: Tensor) -> str:
    kind = "" if value.dtype == torch.float32 else f", dtype={value.dtype}"
    return f"torch.empty({tuple(value.shape)!r}{kind})"


def _constructor(module: nn.Module, path: str) -> str:
    """The call that makes a layer, or what holds layers."""
    if not is_layer(module):
        return "nn.ModuleList()" if _is_list(module) else "nn.Module()"
    kind = type(module)
    if getattr(nn, kind.__name__, None) is not kind:
        raise UntraceableError(f"layer {path} is a {kind.__name__}, which torch.nn does not show")
    words: list[str] = []
    skipped = False
    for name, parameter in inspect.signature(kind).parameters.items():
        if name in _PLACES or name.startswith("_") or parameter.kind in _ANY:
            continue
        if not hasattr(module, name):
            raise UntraceableError(f"layer {path}, a {kind.__name__}, does not tell its {name!r}")
        value = getattr(module, name)
        # A layer keeps the bias itself under the name of the switch.
        value = value is not None if name == "bias" else _narrow(value)
        if parameter.default is not parameter.empty and value == parameter.default:
            skipped = True
            continue
        said = _literal(value, {})
        words.append(
            f"{name}={said}" if skipped or parameter.default is not parameter.empty else said
        )
    return f"nn.{kind.__name__}({', '.join(words)})"


def _narrow(value: Any) -> Any:
    """``3`` for ``(3, 3)``, as people write it."""
    if isinstance(value, tuple) and len(value) > 1 and len(set(value)) == 1:
        return value[0]
    return value


# ---------------------------------------------------------------------- the forward pass


def _forward(graph: fx.Graph, access: dict[str, str]) -> list[str]:
    """A graph's operations as statements; few names, each free again after its last use."""
    nodes = list(graph.nodes)
    last: dict[fx.Node, int] = {}
    for i, node in enumerate(nodes):
        for used in node.all_input_nodes:
            last[used] = i
    names: dict[fx.Node, str] = {}
    lines: list[str] = []
    for i, node in enumerate(nodes):
        if node.op == "placeholder":
            names[node] = "x"
            continue
        if node.op == "get_attr":
            names[node] = _reached(access, str(node.target))
            continue
        if node.op == "output":
            lines.append(f"return {_literal(node.args[0], names)}")
            continue
        said = _call(node, names, access)
        taken = {names[n] for n, end in last.items() if n in names and end > i}
        names[node] = next(name for name in _names() if name not in taken)
        lines.append(f"{names[node]} = {said}")
    return lines


def _names() -> Iterator[str]:
    """``x``, ``y``, ``z``, then ``t0``, ``t1`` and so on."""
    yield from ("x", "y", "z")
    yield from (f"t{i}" for i in count())


def _reached(access: dict[str, str], path: str) -> str:
    if path not in access:
        raise UntraceableError(f"{path} is no layer, parameter or buffer of the network")
    return access[path]


def _call(node: fx.Node, names: dict[fx.Node, str], access: dict[str, str]) -> str:
    if node.target is operator.getitem:
        return f"{_literal(node.args[0], names)}[{_index(node.args[1], names)}]"
    if node.target is getattr:
        return f"{_literal(node.args[0], names)}.{node.args[1]}"
    args = [_literal(a, names) for a in node.args]
    words = args + [f"{k}={_literal(v, names)}" for k, v in node.kwargs.items()]
    inside = ", ".join(words)
    if node.op == "call_module":
        return f"{_reached(access, str(node.target))}({inside})"
    if node.op == "call_method":
        return f"{args[0]}.{node.target}({', '.join(words[1:])})"
    if node.target in _OPERATORS:
        return f"{args[0]} {_OPERATORS[node.target]} {args[1]}"
    if node.target in _SIGNS:
        return f"{_SIGNS[node.target]}{args[0]}"
    return f"{_function(node.target)}({inside})"


def _function(function: Callable[..., Any] | str) -> str:
    name = getattr(function, "__name__", str(function))
    for module, prefix in ((functional, "functional"), (torch, "torch")):
        if getattr(module, name, None) is function:
            return f"{prefix}.{name}"
    raise UntraceableError(f"{name} is no function of torch or torch.nn.functional")


def _index(index: Any, names: dict[fx.Node, str]) -> str:
    if isinstance(index, tuple):
        return ", ".join(_index(one, names) for one in index) + ("," if len(index) == 1 else "")
    if not isinstance(index, slice):
        return _literal(index, names)
    ends = ["" if end is None else _literal(end, names) for end in (index.start, index.stop)]
    step = "" if index.step is None else f":{_literal(index.step, names)}"
    return ":".join(ends) + step


def _literal(value: Any, names: dict[fx.Node, str]) -> str:
    if isinstance(value, fx.Node):
        return names[value]
    if isinstance(value, tuple | list):
        return _sequence([_literal(one, names) for one in value], isinstance(value, tuple))
    if value is None or isinstance(value, bool | int | str | torch.dtype):
        return str(value) if isinstance(value, torch.dtype) else repr(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f'float("{value}")'
    if value is Ellipsis:
        return "..."
    raise UntraceableError(f"an argument of type {type(value).__name__} cannot be written down")


def _sequence(words: Sequence[str], is_tuple: bool) -> str:
    if not is_tuple:
        return f"[{', '.join(words)}]"
    return f"({', '.join(words)}{',' if len(words) == 1 else ''})"
