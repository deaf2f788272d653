"""Making spaces by name: what is registered here, by plug-ins and by installed packages."""

from __future__ import annotations

from typing import Any

from . import cells, convnets, transformers  # noqa: F401 (importing registers)
from .errors import InvalidInputError
from .narrow import narrow
from .plugins import load_entry_points
from .space import SPACES, SearchSpace

__all__ = ["create_space", "list_spaces"]


def create_space(name: str, **options: Any) -> SearchSpace:
    """Make a registered space.

    Args:
        name: see :func:`list_spaces`.
        **options: ``num_classes``, ``resolution``, ``in_channels``, ``width_mult`` and what
            the space's own factory takes; ``only``: gene → values that it may take, where not
            all (see :func:`~scholarch.searchspace.narrow.narrow`).

    Raises:
        UnknownNameError: if no space has that name.
        InvalidInputError: if an option is unknown to the space or out of range.

    Example:
        >>> create_space("resnet-cifar-s0", num_classes=10).size
        64
    """
    load_entry_points()
    factory = SPACES[name]
    only = options.pop("only", None)
    try:
        space = factory(name, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise InvalidInputError(f"space {name!r}: {str(error).split('() ')[-1]}") from error
    return space if only is None else narrow(space, only)


def list_spaces(pattern: str = "*") -> list[str]:
    """Names of the registered spaces that match a shell pattern."""
    load_entry_points()
    return SPACES.names(pattern)
