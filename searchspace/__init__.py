"""Search spaces: genes, architectures, elastic networks, costs.

Names are loaded when first used, so that importing the package stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .architecture import Architecture, Gene, Stage
    from .elastic import ElasticNetwork
    from .errors import InvalidInputError, ScholarchError, UnknownNameError
    from .factory import create_space, list_spaces
    from .registry import Registry
    from .space import SearchSpace, register_space

_HOMES = {
    "architecture": ("Architecture", "Gene", "Stage"),
    "elastic": ("ElasticNetwork",),
    "errors": ("InvalidInputError", "ScholarchError", "UnknownNameError"),
    "registry": ("Registry",),
    "factory": ("create_space", "list_spaces"),
    "space": ("SearchSpace", "register_space"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Architecture",
    "ElasticNetwork",
    "Gene",
    "InvalidInputError",
    "Registry",
    "ScholarchError",
    "SearchSpace",
    "Stage",
    "UnknownNameError",
    "create_space",
    "list_spaces",
    "register_space",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
