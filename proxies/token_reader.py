"""Tokens, queries, keys and values of a Transformer's layers, read while it runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..searchspace.errors import InvalidInputError
from .layouts import map_shape
from .registry import get_proxy
from .taps import TokenTaps

__all__ = ["READS", "AttentionLayer", "TokenReader", "attention_layers", "tokens_for"]

#: What can be asked for: each layer's ``tokens``, and its ``qkv``.
READS = frozenset({"tokens", "qkv"})

#: What libraries call the part of a layer that holds ``qkv``; elsewhere the layer itself does.
_INNER = frozenset({"attn", "attention", "self_attn"})


class AttentionLayer(NamedTuple):
    """A layer of a Transformer that computes queries, keys and values at once.

    Attributes:
        name: path of the whole layer, whose output is a token stream.
        qkv: path of the linear layer whose outputs are (3, heads, width of a head).
        heads: of its attention.
    """

    name: str
    qkv: str
    heads: int


def attention_layers(module: nn.Module) -> list[AttentionLayer]:
    """The layers of our encoders and of timm's Vision Transformers, in their order.

    They are told by a linear layer called ``qkv`` beside a number of heads. Windows of
    attention (Swin) are none: their tokens are not the image's.
    """
    found = []
    for path, inner in module.named_modules():
        owner_path, _, name = path.rpartition(".")
        if name != "qkv" or not isinstance(getattr(inner, "out_features", None), int):
            continue
        owner = module.get_submodule(owner_path)
        heads = getattr(owner, "num_heads", getattr(owner, "heads", None))
        windowed = hasattr(owner, "window_size") or hasattr(owner, "window_area")
        if not isinstance(heads, int) or inner.out_features % (3 * heads) or windowed:
            continue
        above, _, last = owner_path.rpartition(".")
        found.append(AttentionLayer(above if last in _INNER else owner_path, path, heads))
    return found


def tokens_for(proxies: Iterable[str], module: nn.Module) -> frozenset[str]:
    """What :meth:`Teacher.observe` should read of a teacher's layers for some proxies.

    Args:
        proxies: registered names.
        module: the teacher's; of a convnet nothing is read, whoever asks.
    """
    wanted = any("teacher_tokens" in get_proxy(name).needs for name in proxies)
    return READS if wanted and attention_layers(module) else frozenset()


class TokenReader:
    """Reads a Transformer's layers while it runs, with gradients where there are any.

    Args:
        module: the network.
        reads: what is kept, of :data:`READS`.
        name: of the network in messages, e.g. ``"the student"``.

    Raises:
        InvalidInputError: if something is asked for that the network does not have.
    """

    def __init__(self, module: nn.Module, reads: Collection[str], name: str) -> None:
        self._module, self._reads, self._name = module, frozenset(reads), name
        self.layers = attention_layers(module) if reads else []
        if reads and not self.layers:
            raise InvalidInputError(
                f"tokens or attention are compared, and {name} has no attention layers that are"
                " known here; give a Transformer (one of our encoders, a timm ViT), or take an"
                " objective that reads maps or logits"
            )
        self._given: Tensor | None = None
        self._tokens: dict[str, Tensor] = {}
        self._qkv: dict[str, Tensor] = {}

    @contextmanager
    def recording(self) -> Iterator[None]:
        """While it lasts, what was asked for is kept; hooks stand on those modules alone."""
        self._clear()
        with ExitStack() as stack:
            if self.layers:
                hook = self._module.register_forward_pre_hook(self._keep_given)
                stack.callback(hook.remove)
            for index, layer in enumerate(self.layers):
                if "tokens" in self._reads:
                    whole = self._module.get_submodule(layer.name)
                    if index == 0:
                        hook = whole.register_forward_pre_hook(self._keep_embedded)
                        stack.callback(hook.remove)
                    after: Callable[..., None] = partial(self._keep, self._tokens, layer.name)
                    stack.callback(whole.register_forward_hook(after).remove)
                if "qkv" in self._reads:
                    after = partial(self._keep, self._qkv, layer.qkv)
                    inner = self._module.get_submodule(layer.qkv)
                    stack.callback(inner.register_forward_hook(after).remove)
            yield

    def _keep_given(self, _module: nn.Module, args: tuple[Any, ...]) -> None:
        self._given = args[0] if args and isinstance(args[0], Tensor) else None

    def _keep_embedded(self, _module: nn.Module, args: tuple[Any, ...]) -> None:
        self._tokens[""] = args[0]

    @staticmethod
    def _keep(
        kept: dict[str, Tensor], name: str, _module: nn.Module, _args: object, output: Tensor
    ) -> None:
        kept[name] = output

    def _clear(self) -> None:
        self._given = None
        self._tokens.clear()
        self._qkv.clear()

    def read(self) -> TokenTaps | None:
        """What the last pass inside :meth:`recording` left, which is then let go.

        ``None`` where nothing was asked for.

        Raises:
            InvalidInputError: if a layer was not run, or gave out no tokens.
        """
        if not self.layers:
            return None
        names = ["", *(layer.name for layer in self.layers)] if "tokens" in self._reads else []
        tokens = [self._found(self._tokens, name) for name in names]
        wide = [layer for layer in self.layers if "qkv" in self._reads]
        qkv = [self._found(self._qkv, layer.qkv) for layer in wide]
        split = tuple(
            x.unflatten(-1, (3, layer.heads, -1)).permute(0, 2, 3, 1, 4)
            for x, layer in zip(qkv, wide, strict=True)
        )
        first = (tokens or qkv)[0]
        mask, grid = self._mask(), self._grid(tuple(first.shape))
        self._clear()
        return TokenTaps(tuple(tokens), split, mask, grid)

    def _found(self, kept: dict[str, Tensor], name: str) -> Tensor:
        x = kept.get(name)
        if x is None or x.dim() != 3:
            shape = "no output" if x is None else f"an output {list(x.shape)}"
            raise InvalidInputError(
                f"layer {name or 'of the embeddings'!r} of {self._name} has {shape}; need tokens"
                " [B, N, C]"
            )
        return x

    def _mask(self) -> Tensor | None:
        for owner, name in ((self._module, "mask_of"), (self._module, "stem")):
            known = getattr(owner, name, None)
            known = getattr(known, "mask", None) if name == "stem" else known
            if callable(known) and self._given is not None:
                mask: Tensor | None = known(self._given)
                return mask
        return None

    def _grid(self, shape: tuple[int, ...]) -> tuple[int, int] | None:
        given = self._given
        if given is None or given.dim() != 4 or given.shape[2] < 2:
            return None  # texts and sounds are inputs of height 1
        found = map_shape(shape, (int(given.shape[2]), int(given.shape[3])))
        return None if found is None else found[1:]
