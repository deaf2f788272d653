"""Reading a library's configuration and weights, with one clear line where they do not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..searchspace.errors import InvalidInputError

__all__ = ["Source", "stacked"]


class Source:
    """A configuration and the weights that belong to it.

    Args:
        what: where they come from, for messages.
        config: the library's settings.
        weights: by the library's names.
    """

    def __init__(self, what: str, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        self.what, self.config = what, config
        self._weights: Mapping[str, Tensor] = weights
        self._prefix = ""

    def below(self, name: str) -> None:
        """Leave out what wrappers put in front of every name (``bert.`` and the like).

        Args:
            name: of a tensor, without it, that there is once.

        Raises:
            InvalidInputError: if it is not there.
        """
        found = [key for key in self._weights if f".{key}".endswith(f".{name}")]
        if not found:
            raise InvalidInputError(f"{self.what} holds no tensor {name!r}")
        self._prefix = min(found, key=len).removesuffix(name)

    def has(self, name: str) -> bool:
        """Whether there is such a tensor."""
        return self._prefix + name in self._weights

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor of a shape, as float32.

        Raises:
            InvalidInputError: if it is missing or of another shape.
        """
        tensor = self._weights.get(self._prefix + name)
        if tensor is None and "LayerNorm." in name:  # as the first checkpoints of BERT have them
            old = name.replace(".weight", ".gamma").replace(".bias", ".beta")
            tensor = self._weights.get(self._prefix + old)
        if tensor is None:
            raise InvalidInputError(f"{self.what} holds no tensor {self._prefix + name!r}")
        if tuple(tensor.shape) != shape:
            raise InvalidInputError(
                f"{self.what}: tensor {self._prefix + name!r} is {list(tensor.shape)}, its"
                f" configuration needs {list(shape)}"
            )
        return tensor.detach().float()

    def layer(self, name: str, *shape: int, bias: bool = True) -> dict[str, Tensor]:
        """``weight`` of a shape and ``bias`` of its first size; zeros where it has none."""
        found = {"weight": self.take(f"{name}.weight", *shape)}
        known = bias and self.has(f"{name}.bias")
        zeros = torch.zeros(shape[0])
        # A layer norm's is never left out.
        found["bias"] = self.take(f"{name}.bias", shape[0]) if known or len(shape) == 1 else zeros
        return found

    def whole(self, name: str, default: int | None = None, least: int = 1) -> int:
        """A whole number of the configuration.

        Raises:
            InvalidInputError: if it is missing, no whole number, or too small.
        """
        value = self.config.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidInputError(
                f"{self.what}: {name} = {value!r}; need a whole number from {least}"
            )
        return value

    def number(self, name: str, default: float) -> float:
        """A number of the configuration above 0.

        Raises:
            InvalidInputError: if it is none.
        """
        value = self.config.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise InvalidInputError(f"{self.what}: {name} = {value!r}; need a number above 0")
        return float(value)

    def choice(self, name: str, default: Any, known: Iterable[Any]) -> Any:
        """A value of the configuration among those that we can build.

        Raises:
            InvalidInputError: if it is none of them.
        """
        value, known = self.config.get(name, default), list(known)
        if value is None:
            value = default
        if value not in known:
            raise InvalidInputError(
                f"{self.what}: {name} = {value!r}; can be converted with"
                f" {' or '.join(map(repr, known))}"
            )
        return value

    def head_dim(self, dim: int, heads: int) -> int:
        """Width of a head.

        Raises:
            InvalidInputError: if the heads do not divide the width.
        """
        if dim % heads:
            raise InvalidInputError(
                f"{self.what}: {heads} heads do not divide a width of {dim}; need a divisor"
            )
        return dim // heads


def stacked(*parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Linear layers that read the same as one, rows after rows."""
    return {key: torch.cat([part[key] for part in parts]) for key in ("weight", "bias")}
