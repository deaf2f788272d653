"""Cutting a network into the blocks that are timed, by running it once on shapes alone.

A block is whatever the containers of a network (``nn.Sequential``, ``nn.ModuleList``) hold:
it needs no help from the space that built it, and is the very module that will be deployed.
What follows a block and has neither weights of its own nor a change of shape, such as an
activation, belongs to it, since runtimes fuse the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn

__all__ = ["Chunk", "cut", "describe", "plain_input"]

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_ELEMENTWISE = (
    nn.ReLU,
    nn.ReLU6,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.SiLU,
    nn.GELU,
    nn.Sigmoid,
    nn.BatchNorm2d,
)


@dataclass(slots=True)
class Chunk:
    """One call of a block inside a network.

    Attributes:
        path: where in the network, e.g. ``"stages.1.2"``; what was joined stands behind a plus,
            and a second call of the same module has ``"#2"`` behind it.
        modules: the block, and what was joined to it.
        calls: which call of each module it is, from 1.
        args: what it was called with; tensors are on the meta device.
        key: what tells it from blocks that take another time: input, layers, their sizes.
        inside: class of the module, by which a caller asks to cut finer; none of a leaf.
    """

    path: str
    modules: list[nn.Module]
    calls: list[int]
    args: tuple[Any, ...]
    key: str = ""
    inside: str = ""
    out: Tensor | None = field(default=None, repr=False)

    @property
    def module(self) -> nn.Module:
        """The block as one module; its parts are the network's own."""
        return self.modules[0] if len(self.modules) == 1 else nn.Sequential(*self.modules)


def cut(
    network: nn.Module, image: tuple[int, int, int], finer: frozenset[str] = frozenset()
) -> list[Chunk]:
    """The blocks of a network, in the order in which they run.

    Args:
        network: in any state, best built under ``torch.device("meta")``; left as it was but for
            being in evaluation mode.
        image: channels, height and width of its input.
        finer: names of classes that are cut into their own children.

    A block is only cut out if it is called with one tensor and plain numbers.
    """
    chunks: list[Chunk] = []
    calls: dict[str, int] = {}
    hooks = []
    for path, module in _candidates(network, "", finer):

        def before(module: nn.Module, args: tuple[Any, ...], path: str = path) -> None:
            calls[path] = calls.get(path, 0) + 1
            name = path if calls[path] == 1 else f"{path}#{calls[path]}"
            kind = type(module).__name__ if any(True for _ in module.children()) else ""
            chunks.append(Chunk(name, [module], [calls[path]], args, inside=kind))

        def after(_module: nn.Module, _args: tuple[Any, ...], out: Any) -> None:
            chunks[-1].out = out if isinstance(out, Tensor) else None

        hooks += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    device = next((p.device for p in network.parameters()), torch.device("meta"))
    try:
        with torch.inference_mode(), _shapes_alone(network):
            is_image = image[:2] != (2, 1)
            x = torch.empty(1, *image, device=device) if is_image else plain_input(1, image)
            network.eval()(x.to(device))
    finally:
        for hook in hooks:
            hook.remove()
    merged = list(_merged(chunks))
    for chunk in merged:
        chunk.key = f"{_given(chunk.args)} {describe(chunk.module)}"
        chunk.out = None
    return merged


def plain_input(batch: int, image: tuple[int, int, int]) -> Tensor:
    """An input to run a network on when values do not matter, ``[batch, C, H, W]``.

    Images are noise. Text and sound, two bytes a token or sample, are 1 everywhere: a word that
    every vocabulary has and no padding.

    Args:
        batch: how many.
        image: channels, height and width of one.
    """
    if image[:2] == (2, 1):
        return torch.tensor([0.0, 1.0 / 255.0]).view(1, 2, 1, 1).repeat(batch, 1, 1, image[2])
    return torch.randn(batch, *image, generator=torch.Generator().manual_seed(0))


def _candidates(
    module: nn.Module, prefix: str, finer: frozenset[str]
) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        path = prefix + name
        if type(child) in _CONTAINERS or type(child).__name__ in finer:
            yield from _candidates(child, f"{path}.", finer)
        else:
            yield path, child


def _merged(chunks: list[Chunk]) -> Iterator[Chunk]:
    """Chunks with what is elementwise joined to the chunk whose output it is given."""
    last: Chunk | None = None
    for chunk in chunks:
        fused = isinstance(chunk.modules[0], _ELEMENTWISE)
        if fused and last is not None and _leads(last.modules[0]) and chunk.args[0] is last.out:
            last.modules += chunk.modules
            last.calls += chunk.calls
            last.path = f"{last.path}+{chunk.path}"
            last.out = chunk.out
            continue
        if last is not None:
            yield last
        last = chunk
    if last is not None:
        yield last


def _leads(module: nn.Module) -> bool:
    """Whether it is a layer of weights, alone or with what was joined to it.

    What follows a whole block stays its own: whether it is given just that block's output may
    depend on the architecture, as in cells.
    """
    while isinstance(module, nn.Sequential) and len(module):
        module = module[0]
    return isinstance(module, nn.Conv2d | nn.Linear)


def _given(args: tuple[Any, ...]) -> str:
    """``24x112x112`` of a map without its batch; further arguments behind it."""
    words = []
    for arg in args:
        shape = tuple(arg.shape[1:]) if isinstance(arg, Tensor) else None
        words.append(repr(arg) if shape is None else "x".join(map(str, shape)) or "scalar")
    return ",".join(words)


# ---------------------------------------------------------------------- words


def describe(module: nn.Module) -> str:
    """A module's layers in one line: equal lines take equal time on equal input.

    Example:
        >>> from torch import nn
        >>> describe(nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1, bias=False, device="meta"), nn.ReLU()))
        'conv3x3/2 8-16, relu'
    """
    return ", ".join(_words(module)) or type(module).__name__.lower()


def _words(module: nn.Module) -> Iterator[str]:
    for kind, word in _WORDS:
        if isinstance(module, kind):
            yield word(module)
            return
    children = list(module.children())
    if not children:
        yield f"{type(module).__name__.lower()}({module.extra_repr()})".replace("()", "")
        return
    numbers = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name != "training" and _plain(value)
    }
    inner = ", ".join(word for child in children for word in _words(child))
    if type(module) is nn.Sequential and not numbers:
        yield inner
        return
    said = ";".join(f"{name}={value}" for name, value in sorted(numbers.items()))
    yield f"{type(module).__name__}{f'<{said}>' if said else ''}({inner})"


def _plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_plain, value))
    return isinstance(value, bool | int | float | str)


def _conv(module: nn.Module) -> str:
    conv = cast(nn.Conv2d, module)
    (high, wide), (stride, _) = conv.kernel_size, conv.stride
    same = conv.padding == ((high - 1) // 2, (wide - 1) // 2)
    sizes = f"{conv.in_channels}-{conv.out_channels}"
    kind = "dwconv" if 1 < conv.groups == conv.in_channels else "conv"
    return (
        f"{kind}{high}x{wide}{f'/{stride}' if stride > 1 else ''} {sizes}"
        + (f" groups{conv.groups}" if kind == "conv" and conv.groups > 1 else "")
        + ("" if same else f" pad{conv.padding}")
        + (f" dilation{conv.dilation[0]}" if conv.dilation[0] > 1 else "")
        + (" bias" if conv.bias is not None else "")
    )


def _pool(module: nn.Module) -> str:
    pool = cast(nn.AvgPool2d, module)
    ceil = " ceil" if pool.ceil_mode else ""
    name = "avgpool" if isinstance(module, nn.AvgPool2d) else "maxpool"
    return f"{name}{pool.kernel_size}/{pool.stride} pad{pool.padding}{ceil}"


_WORDS: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], Callable[..., str]], ...] = (
    (nn.Conv2d, _conv),
    (nn.BatchNorm2d, lambda _: "bn"),
    (nn.LayerNorm, lambda m: f"layernorm {math.prod(m.normalized_shape)}"),
    (nn.Linear, lambda m: f"linear {m.in_features}-{m.out_features}"),
    ((nn.AvgPool2d, nn.MaxPool2d), _pool),
)

# ---------------------------------------------------------------------- shapes


class _shapes_alone:  # noqa: N801 (a context manager)
    """Let the commonest layers compute their output's shape, and nothing else.

    On the meta device torch's own decompositions take a millisecond a convolution, these ten
    microseconds.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = [
            module
            for module in network.modules()
            if isinstance(module, (nn.Conv2d, nn.Linear, nn.LayerNorm, *_ELEMENTWISE))
            and not isinstance(getattr(module, "padding", None), str)
        ]
        if not all(p.device.type == "meta" for p in network.parameters()):
            self._layers = []

    def __enter__(self) -> None:
        for layer in self._layers:
            fake: Callable[..., Tensor] = _same_shape
            if isinstance(layer, nn.Conv2d):
                fake = _conv_shape
            elif isinstance(layer, nn.Linear):
                fake = _linear_shape
            # An instance's attribute hides the class's method until it is deleted.
            setattr(layer, "forward", MethodType(fake, layer))  # noqa: B010

    def __exit__(self, *_: object) -> None:
        for layer in self._layers:
            del layer.forward


def _conv_shape(conv: nn.Conv2d, x: Tensor) -> Tensor:
    sides = [
        (side + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        for side, pad, dilation, kernel, stride in zip(
            x.shape[2:],
            cast(Any, conv.padding),
            conv.dilation,
            conv.kernel_size,
            conv.stride,
            strict=True,
        )
    ]
    return x.new_empty(x.shape[0], conv.out_channels, *sides)


def _linear_shape(layer: nn.Linear, x: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], layer.out_features)


def _same_shape(_layer: nn.Module, x: Tensor) -> Tensor:
    return x.new_empty(x.shape)
